"""See `python -m jobs.chaos --help`."""
