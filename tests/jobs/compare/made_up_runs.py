"""Finished runs written by hand, so that every figure of a report can be worked out."""

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.schema import RESULT_FIELDS
from tests.configs import fake_config
from tests.run_folders import add_run_files


def segment(num_tokens, reward, num_attempts, accepted_by="rule", threshold=0.0):
    return {
        "num_tokens": num_tokens,
        "reward": reward,
        "threshold": threshold,
        "acceptance_probability": 1.0,
        "num_attempts": num_attempts,
        "accepted_by": accepted_by,
    }


def row(row_id, response, reward, policy_tokens=10, segments=(), prompt=None, error_type=None):
    """One output row; an error row where `error_type` is set."""
    return {
        "id": row_id,
        "prompt": prompt or f"prompt {row_id}",
        "response": None if error_type else response,
        "reward": None if error_type else reward,
        "finish_reason": "error" if error_type else "stop",
        "num_prompt_tokens": 2,
        "num_response_tokens": len(response or ""),
        "num_policy_tokens": policy_tokens,
        "num_reward_tokens": 5,
        "num_policy_calls": 2,
        "num_reward_calls": 1,
        "segments": list(segments),
        "strategy": "stars",
        "seed": 0,
        "error_type": error_type,
        "error": error_type and "it broke",
    }


def write_run(folder, rows, seed=0, status="finished", **sections):
    """A run directory with these rows, as `jobs.align` leaves it."""
    config = fake_config(output=str(folder), seed=seed, **sections)
    add_run_files(folder, config, status)
    schema = pa.schema([("id", pa.string()), ("prompt", pa.string()), *RESULT_FIELDS])
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "part-00000.parquet")
    return str(folder)
