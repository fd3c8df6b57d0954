"""Owns the embedded prompts: conversations drawn from the world, and the Parquet files that ship them.

Invariants: rows are drawn independently, so any leading slice is representative; ids and prompts are unique in a file;
exactly one of `prompt` and `messages` is null; only the final user turn is ever from the held-out split.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.embedded.responses import sample_helpful_response
from pipeline.embedded.vocabulary import vocabulary
from pipeline.embedded.world import Scenario, Split, TaskScenario, sample_prompt, sample_scenario

Message = dict[str, str]

MESSAGES_FRACTION = 1 / 8
NUM_PROMPTS: dict[Split, int] = {"train": 4000, "heldout": 2000}

PROMPT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("prompt", pa.string()),
        pa.field("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        pa.field("domain", pa.string()),
        pa.field("task", pa.string()),
        pa.field("kind", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A chat that ends with a user's prompt, and the scenario that prompt states."""

    scenario: Scenario
    messages: tuple[Message, ...]

    @property
    def prompt(self) -> str:
        return self.messages[-1]["content"]


def sample_conversation(rng: random.Random, split: Split) -> Conversation:
    """Draw a prompt of the split; one in eight follows a system message, an earlier turn, or both."""
    scenario = sample_scenario(rng, split)
    context: list[Message] = []
    if rng.random() < MESSAGES_FRACTION:
        shape = rng.choice(("system", "turn", "system and turn"))
        if "system" in shape:
            context.append({"role": "system", "content": rng.choice(vocabulary().system_messages)})
        if "turn" in shape:
            context.extend(_earlier_turn(rng))
    return Conversation(scenario, (*context, {"role": "user", "content": sample_prompt(scenario, rng)}))


def prompt_rows(split: Split, num_prompts: int, seed: int) -> list[dict[str, object]]:
    """Rows of PROMPT_SCHEMA with distinct prompts; the same seed gives the same rows."""
    rng = random.Random(f"prompts {split} {seed}")
    rows: dict[str, dict[str, object]] = {}
    while len(rows) < num_prompts:
        conversation = sample_conversation(rng, split)
        rows.setdefault(conversation.prompt, _row(conversation, f"{split}-{len(rows):05d}"))
    return list(rows.values())


def write_prompts(folder: Path, seed: int) -> None:
    """Write `train.parquet` and `heldout.parquet` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, num_prompts in NUM_PROMPTS.items():
        table = pa.Table.from_pylist(prompt_rows(split, num_prompts, seed), schema=PROMPT_SCHEMA)
        pq.write_table(table, folder / f"{split}.parquet", compression="zstd")


def _earlier_turn(rng: random.Random) -> list[Message]:
    """Another prompt and the first two sentences of a helpful answer to it, always from the training split."""
    scenario = sample_scenario(rng, "train")
    answer = ". ".join(sample_helpful_response(scenario, rng).split(". ")[:2]).rstrip(".") + "."
    return [
        {"role": "user", "content": sample_prompt(scenario, rng)},
        {"role": "assistant", "content": answer},
    ]


def _row(conversation: Conversation, row_id: str) -> dict[str, object]:
    scenario, plain = conversation.scenario, len(conversation.messages) == 1
    if isinstance(scenario, TaskScenario):
        kind, domain, task = "task", scenario.domain.name, scenario.task.action.format(object="...")
    else:
        kind, domain, task = "harmful", "family", scenario.request.name
    return {
        "id": row_id,
        "prompt": conversation.prompt if plain else None,
        "messages": None if plain else list(conversation.messages),
        "domain": domain,
        "task": task,
        "kind": kind,
    }
