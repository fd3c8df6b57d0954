"""The code that decides the rows of a run, as its fingerprint covers it; a test holds it against what is imported.

Nothing here imports Ray, so that an output of another version is refused at once.
"""

from pathlib import Path

from pipeline.runs.fingerprint import Sources

DECIDING_SOURCES = Sources(
    Path(__file__).parents[2],
    (
        "pipeline/draws.py",
        "pipeline/protocol.py",
        "pipeline/records.py",
        "pipeline/dataset",
        "pipeline/strategies",
        "pipeline/runs/retry.py",
        "actors/batch/align_shards.py",
        "actors/coordination",
        "actors/engines",
        "actors/models",
        "actors/rendering",
        "actors/rewards",
    ),
)
