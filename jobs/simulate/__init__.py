"""See `python -m jobs.simulate --help`."""
