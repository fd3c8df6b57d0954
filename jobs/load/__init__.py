"""See `python -m jobs.load --help`."""
