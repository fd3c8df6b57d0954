"""Responses in alpaca_eval's format: a JSON list of {instruction, output, generator, dataset}, one file a run.

alpaca_eval joins two files by `instruction`, so that is the prompt as the user wrote it. Error rows have no output and
are left out. The instruction of a conversation with several turns is its whole text, turn by turn.
"""

import json

from pipeline.runs.run_rows import RunRows
from pipeline.storage import Location


def write_alpaca_eval(folder: Location, name: str, rows: RunRows, dataset: str) -> Location:
    """Write `NAME-SEED.json` and return where it is."""
    folder.create_directory()
    generator = f"{name}-{rows.seed}"
    entries = [
        {"instruction": as_text(conversation), "output": response, "generator": generator, "dataset": dataset}
        for conversation, response in zip(rows.conversations, rows.responses, strict=True)
    ]
    file = folder / f"{generator}.json"
    file.write_text(json.dumps(entries, ensure_ascii=False, indent=1) + "\n")
    return file


def as_text(conversation: list[dict[str, str]]) -> str:
    """One user turn as it is; several turns with their roles."""
    if len(conversation) == 1:
        return conversation[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in conversation)
