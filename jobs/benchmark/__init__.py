"""See `python -m jobs.benchmark --help`."""
