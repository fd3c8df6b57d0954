"""Judges of single texts, by the name that a config gives them; one is imported only when it is asked for."""

from collections.abc import Callable
from importlib import import_module

TextJudge = Callable[[str, str], float]
TEXT_JUDGES = {"embedded": ("pipeline.embedded.judge", "gold_score")}


def load_text_judge(name: str) -> TextJudge:
    """The score of (what the user asked last, response), higher is better."""
    module, function = TEXT_JUDGES[name]
    return getattr(import_module(module), function)
