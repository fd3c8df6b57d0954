"""Requests that no client should send, made from a seed: what, and with which body."""

import json
import random

NAMES = "model messages max_tokens temperature top_p seed stop n stream stream_options stars"
FIELDS = NAMES.split()
VALUES = (
    None, True, -1, 0, 10**9, 2**63, 1e308, "", "x", "\x00", "<|user|>", [], [[]], [None], {}, {"a": {"b": []}},
    "../../etc/passwd", "{{ 7 * 7 }}", "'; DROP TABLE rows", "\u202e\u0000😀",
)  # fmt: skip
BASE = {"messages": [{"role": "user", "content": "Tell me about the sea."}], "max_tokens": 8, "stars": {"id": "h"}}
MARKERS = ("<|end|>", "<|assistant|>", "<|user|>", "<|pad|>", "</s>", "[INST]", "<|im_end|>")


def hostile_bodies(seed, count):
    """So many bodies, some of them harmless after all."""
    rng = random.Random(seed)
    return [rng.choice(KINDS)(rng) for _ in range(count)]


def wrong_value(rng):
    return encode(BASE | {rng.choice(FIELDS): rng.choice(VALUES)})


def unknown_field(rng):
    return encode(BASE | {rng.choice(("tools", "logprobs", "__class__", "x" * 5000, "é\u0000")): rng.choice(VALUES)})


def wrong_knob(rng):
    knob = rng.choice(("strategy", "segment_size", "max_attempts", "beta", "n", "id", "top_k", "nope", "name"))
    return encode(BASE | {"stars": {knob: rng.choice(VALUES)}})


def wrong_messages(rng):
    turns = [{rng.choice(("role", "content", "tool_calls")): rng.choice(VALUES)} for _ in range(rng.randrange(4))]
    return encode(BASE | {"messages": turns})


def huge_prompt(rng):
    return encode(BASE | {"messages": [{"role": "user", "content": "long " * rng.choice((500, 50_000, 400_000))}]})


def template_markers(rng):
    content = "".join(rng.choice((*MARKERS, " sea ", "\n")) for _ in range(12))
    return encode(BASE | {"messages": [{"role": "user", "content": content + " hello"}]})


def broken_json(rng):
    whole = encode(BASE)
    return rng.choice(
        (whole[: rng.randrange(len(whole))], b"\xff\xfe" + whole, b"[" * 50_000, b"NaN", b'"\\ud800"', b"")
    )


def random_bytes(rng):
    return rng.randbytes(rng.randrange(1, 2000))


def encode(body):
    return json.dumps(body).encode()


KINDS = (
    wrong_value, unknown_field, wrong_knob, wrong_messages, huge_prompt, template_markers, broken_json, random_bytes
)  # fmt: skip
