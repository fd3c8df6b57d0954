"""See `python -m jobs.export_pairs --help`."""
