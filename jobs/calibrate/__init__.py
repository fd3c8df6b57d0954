"""See `python -m jobs.calibrate --help`."""
