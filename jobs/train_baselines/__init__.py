"""See `python -m jobs.train_baselines --help`."""
