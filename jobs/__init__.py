"""What one runs: `python -m jobs.NAME`, a package for each job with what only that job does."""
