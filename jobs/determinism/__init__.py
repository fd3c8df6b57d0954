"""See `python -m jobs.determinism --help`."""
