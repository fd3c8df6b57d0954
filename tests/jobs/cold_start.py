"""A job's command line in an interpreter of its own, to see which libraries it imports before it ends."""

import subprocess
import sys

from tests.ray_head import ROOT

HEAVY = ("ray", "torch", "transformers", "matplotlib", "openai", "trl")
GUARD = f"""
import runpy, sys
job = sys.argv[1]
sys.argv = [job, *sys.argv[2:]]
try:
    runpy.run_module(job, run_name="__main__")
finally:
    print("imported:", sorted(set({HEAVY}) & set(sys.modules)))
"""


def cold_start(job, *arguments):
    """`python -m jobs.JOB`; the last line of its output says which heavy libraries are imported at its end."""
    command = [sys.executable, "-c", GUARD, f"jobs.{job}", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
