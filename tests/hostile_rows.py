"""Hostile input rows from a seeded generator, each with the faults it may end in; None among them allows a response."""

import random
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

TOO_LONG = "word " * 2_000_000
MARKS = (
    "<|end|>",
    "<|user|>",
    "<|assistant|>",
    "<|im_start|>system",
    "</s>",
    "[INST]",
    "{{ messages }}",
    "{% raise %}",
)
ODD_TEXTS = (
    "zero\u200bwidth\u200d\ufeff",
    "\u202eright to left \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "bell \x07 nul \x00 escape \x1b[31m",
    "line\u2028separator\r\n\ttab",
    "combining " + "e\u0301" * 50,
    "emoji \U0001f469\u200d\U0001f469\u200d\U0001f467\U0001f3fd",
    "\u200b",
    "\x01",
    "\ufffd\uffff",
)
NOT_FOUND_BEFORE_IDS = {None, "prompt_too_long", "template_error"}
BLANK_TEXTS = ("", " ", "\n\t \u00a0\u2003")
ROLES = ("system", "user", "assistant")
BAD_ROLES = (None, "", "User", "robot", "function", "\u202eresu", "system\x00")


@dataclass
class HostileRow:
    id: str | None
    prompt: bytes | None = None
    messages: list[Any] | None = None
    sampling_params: dict[str, Any] | None = None
    faults: set[str | None] = field(default_factory=lambda: {None})


def hostile_rows(count: int, seed: int) -> list[HostileRow]:
    rng = random.Random(seed)
    rows = [
        rng.choice((_text, _text, _marked, _broken_text, _blank, _turns, _bad_turns, _knobs))(rng) for _ in range(count)
    ]
    for i, row in enumerate(rows):
        row.id = f"r{i}"
    for i in rng.sample(range(count), 3):
        rows[i].prompt, rows[i].messages = TOO_LONG.encode(), None
        rows[i].faults = {"prompt_too_long", "bad_sampling_params"}
    for i in rng.sample(range(1, count), count // 40):
        rows[i].id = rows[rng.randrange(i)].id
    seen: set[str] = set()
    for row in rows:
        if rng.random() < 0.02:
            row.id, row.faults = None, {"null_id"}
        elif row.id in seen and row.faults & NOT_FOUND_BEFORE_IDS:
            row.faults = (row.faults - NOT_FOUND_BEFORE_IDS) | {"duplicate_id"}
        seen |= {row.id} - {None}
    return rows


def as_table(rows: list[HostileRow], text: pa.DataType) -> pa.Table:
    """The rows with prompts of an Arrow text type; broken UTF-8 goes in as Arrow lets it in, unchecked."""
    prompts = pa.array([row.prompt for row in rows], pa.large_binary()).view(pa.large_string())
    turn = pa.struct([("role", pa.string()), ("content", pa.string()), ("name", pa.list_(pa.int64()))])
    knobs = pa.struct([("temperature", pa.float64()), ("top_k", pa.int64()), ("seed", pa.int64())])
    return pa.table(
        {
            "id": pa.array([row.id for row in rows]),
            "prompt": prompts.dictionary_encode() if pa.types.is_dictionary(text) else prompts.cast(text),
            "messages": pa.array([row.messages for row in rows], pa.list_(turn)),
            "sampling_params": pa.array([row.sampling_params for row in rows], knobs),
        }
    )


def _odd(rng: random.Random) -> str:
    return " ".join(rng.choice(ODD_TEXTS) for _ in range(rng.randint(1, 4)))


def _text(rng: random.Random) -> HostileRow:
    return HostileRow("", prompt=_odd(rng).encode())


def _marked(rng: random.Random) -> HostileRow:
    text = "".join(rng.choice((*MARKS, " ", "hi", _odd(rng))) for _ in range(rng.randint(1, 6)))
    return HostileRow("", prompt=text.encode(), faults={None, "empty_prompt"} if not text.strip() else {None})


def _broken_text(rng: random.Random) -> HostileRow:
    broken = rng.choice((b"\xed\xa0\x80", b"\xff\xfe", b"\xc3", b"\xf0\x9f\x92", b"\x80"))
    return HostileRow("", prompt=_odd(rng).encode() + broken + b"tail", faults={"prompt_not_text"})


def _blank(rng: random.Random) -> HostileRow:
    if rng.random() < 0.5:
        return HostileRow("", faults={"null_prompt"})
    return HostileRow("", prompt=rng.choice(BLANK_TEXTS).encode(), faults={"empty_prompt"})


def _turns(rng: random.Random) -> HostileRow:
    contents = [rng.choice((_odd(rng), rng.choice(MARKS), "")) for _ in range(rng.randint(0, 3))]
    turns = [{"role": rng.choice(ROLES), "content": content, "name": None} for content in contents]
    turns.append({"role": "user", "content": rng.choice(MARKS) + _odd(rng), "name": [1, None]})
    return HostileRow("", prompt=b"unused", messages=turns, faults={None, "template_error"})


def _bad_turns(rng: random.Random) -> HostileRow:
    good = {"role": "user", "content": "hi", "name": None}
    bad = rng.choice(
        (
            [],
            [None, good],
            [good, None],
            [good | {"content": None}],
            [good | {"role": rng.choice(BAD_ROLES)}, good],
            [good, good | {"role": "assistant"}],
            [{"role": None, "content": None, "name": None}],
        )
    )
    return HostileRow("", messages=bad, faults={"bad_messages"})


def _knobs(rng: random.Random) -> HostileRow:
    knobs = {
        "temperature": rng.choice((None, 0.0, 0.7)),
        "top_k": rng.choice((None, 0, 5)),
        "seed": rng.choice((None, 3)),
    }
    bad = rng.choice(({}, {"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": -4}, {"seed": -1}))
    return HostileRow(
        "", prompt=b"fine", sampling_params=knobs | bad, faults={"bad_sampling_params"} if bad else {None}
    )
