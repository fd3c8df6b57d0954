"""A score in what a judge writes. What is no plain number of the scale is no score; nothing is guessed."""

import json
import math
import re
from typing import Any

THOUGHTS = re.compile(r"<think>.*?</think>|^.*?</think>", re.DOTALL)  # some templates open the first one themselves
NUMBER = r"[-+]?\d+(?:\.\d+)?"
ALONE = re.compile(rf"\W*?({NUMBER})(?:\s*/\s*{NUMBER})?\W*")
NAMED = re.compile(rf"\b(?:score|rating|grade)\b[\s\"'*:=\[(`]*(?:is|of)?[\s\"'*:=\[(`]*({NUMBER})", re.IGNORECASE)
ANY = re.compile(rf"(?<![\w.]){NUMBER}(?![\w])")
FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
MAX_SHOWN_CHARACTERS = 120


class NoScore(Exception):
    """A reply without a score; the message says what it holds."""


def read_score(reply: str, score_key: str | None, scale: tuple[float, float] | None) -> float:
    """The score of a reply: the number it consists of, the one that it calls its score, or the only one in it; with a
    `score_key`, the number under that key of the JSON object in it.

    Raises:
        NoScore: there is none, there are several, or it is not within `scale`.
    """
    said = THOUGHTS.sub("", reply).strip()
    number = None
    if not said.startswith("<think>"):  # thoughts that have no end are no answer
        number = _in_text(said) if score_key is None else _in_json(said, score_key)
    if number is None:
        wanted = "single number" if score_key is None else f"JSON object with a number {score_key!r}"
        raise NoScore(f"the reply holds no {wanted}: {_shown(said)}")
    if not math.isfinite(number) or (scale is not None and not scale[0] <= number <= scale[1]):
        within = "" if scale is None else f", which is not from {scale[0]:g} to {scale[1]:g} (reward.scale)"
        raise NoScore(f"the reply's score is {number:g}{within}: {_shown(said)}")
    return number


def _in_text(said: str) -> float | None:
    if (alone := ALONE.fullmatch(said)) is not None:
        return float(alone[1])
    if named := NAMED.findall(said):
        return float(named[-1])
    found = set(map(float, ANY.findall(said)))
    return found.pop() if len(found) == 1 else None


def _in_json(said: str, key: str) -> float | None:
    for text in (said, *reversed(FENCE.findall(said)), said[said.find("{") : said.rfind("}") + 1]):
        try:
            found: Any = json.loads(text)
        except ValueError:
            continue
        value = found.get(key) if isinstance(found, dict) else None
        return _as_float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    return None


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _shown(said: str) -> str:
    line = " ".join(said.split())
    return repr(line if len(line) <= MAX_SHOWN_CHARACTERS else f"{line[:MAX_SHOWN_CHARACTERS]} …")
