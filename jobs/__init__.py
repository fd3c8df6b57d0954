"""Entry points, run as `python -m jobs.NAME`. No logic lives here."""
