"""From the labels that a config names to the logits that count."""

from typing import TYPE_CHECKING

from pipeline.config.model_rewards import Label, Labels
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def label_weights(model: str, labels: Labels, config: "PreTrainedConfig") -> tuple[tuple[int, float], ...]:
    """Places of a model's logits, and how much each counts.

    Raises:
        ConfigError: the model has no such label, or several and none is named.
    """
    names = {str(name): int(place) for place, name in config.id2label.items()}
    if not labels.weights:
        if len(names) == 1:
            return ((0, 1.0),)
        raise ConfigError(
            f"reward.model {model!r} has {len(names)} labels ({_shown(names)}); name one with reward.label, "
            "two as [good, bad], or several with reward.label_weights"
        )
    return tuple((_place(model, label, names), weight) for label, weight in labels.weights)


def head_weights(model: str, labels: Labels, config: "PreTrainedConfig") -> tuple[tuple[int, float], ...]:
    """The same where the head is not of transformers, so that the config's labels may not be its own: a number is a
    place whatever the config says, and nothing stands for a head of one number."""
    return tuple((label_place(model, label, config), weight) for label, weight in labels.weights) or ((0, 1.0),)


def label_place(model: str, label: Label, config: "PreTrainedConfig") -> int:
    """One label's place; a number is a place whatever the config says."""
    names = {str(name): int(place) for place, name in config.id2label.items()}
    return int(label) if str(label).isdecimal() else _place(model, label, names)


def _place(model: str, label: Label, names: dict[str, int]) -> int:
    if label in names:
        return names[str(label)]
    places = set(names.values())
    if str(label).isdecimal() and int(label) in places:
        return int(label)
    raise ConfigError(f"reward.model {model!r} has no label {label!r}; it has {_shown(names)}")


def _shown(names: dict[str, int]) -> str:
    shown = [f"{place} {name}" for name, place in names.items()]
    return ", ".join(shown[:20]) + (", …" if len(shown) > 20 else "")
