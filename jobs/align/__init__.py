"""See `python -m jobs.align --help`."""
