"""See `python -m jobs.train_embedded --help`."""
