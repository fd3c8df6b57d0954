"""See `python -m jobs.compare --help`."""
