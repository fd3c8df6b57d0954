"""See `python -m jobs.growth --help`."""
