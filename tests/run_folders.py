"""What `jobs.align` leaves beside part files that a test has written by hand."""

import yaml

from pipeline.runs.manifest import Manifest
from pipeline.storage import locate


def add_run_files(folder, config, status="finished", gathered=(), fingerprint=None):
    """The config and the manifest of a run in this state."""
    (folder / "_run").mkdir(parents=True, exist_ok=True)
    (folder / "_run/config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    started = "2026-01-01T00:00:00+00:00"
    Manifest(fingerprint or {}, {}, config.seed, started, status, gathered=gathered).save(locate(str(folder)))
