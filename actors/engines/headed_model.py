"""A body and a head that are found by name or made of a class of one's own."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from actors.engines.checkpoint_keys import checkpoint_files
from actors.engines.model_classes import model_class
from actors.engines.plain_check import check_against_plain, plain_output, probe_tokens
from actors.engines.pretrained import load_model, load_options, make_body, packed
from actors.engines.reward_engine import RewardEngine, weighted
from pipeline.config.decoding import EngineConfig
from pipeline.config.model_rewards import CustomHeadReward, HeadModel
from pipeline.errors import ConfigError
from pipeline.protocol import CallStats
from pipeline.records import TokenArray

OWN_CLASSES = (
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModel",
    "AutoModelForCausalLM",
)


def class_of(section: HeadModel, config: PreTrainedConfig, otherwise: str) -> str:
    """The name of a model's class: the configured one, else the repository's own, else transformers' usual one."""
    if section.model_class is not None:
        return section.model_class
    own = getattr(config, "auto_map", None) or {}
    found = [name for name in OWN_CLASSES if name in own]
    if found and not section.trust_remote_code:
        raise ConfigError(
            f"reward.model {section.model!r} brings code of its own ({own[found[0]]}); read it, then set "
            "reward.trust_remote_code: true, or name a class with reward.model_class"
        )
    return found[0] if found else otherwise


def find_head(section: HeadModel, model: nn.Module, name: str) -> nn.Module:
    """A part of a model by its name; raises ConfigError when there is none."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        parts = ", ".join(part for part, _ in model.named_children())
        raise ConfigError(
            f"reward.model {section.model!r}: {type(model).__name__} has no {name!r}; it has {parts}"
        ) from None


def load_headed(section: HeadModel, class_name: str) -> PreTrainedModel:
    """The model; raises ConfigError where it would lack weights."""
    return load_model("reward", model_class(class_name), section, **load_options(section))


def load_custom_engine(
    section: CustomHeadReward, engine: EngineConfig, class_name: str, weights: Sequence[tuple[int, float]]
) -> "RewardEngine | OwnForward":
    """An engine over a head that the config names.

    Raises:
        ConfigError: there is no such head, or the model gives other numbers in it than by itself.
    """
    model = load_headed(section, class_name)
    if section.output is not None:
        return OwnForward(packed(model), section.output, weights)
    own = own_head(section, model) if section.head_class else None
    probe = probe_tokens(model)
    with torch.inference_mode():
        numbers = (own or find_head(section, model, section.head))(plain_hidden(model, probe)[-1])
        expected = numbers.float().flatten().tolist()
    _check_numbers(section, model, probe, expected, weights)
    body = make_body(packed(model), section, engine)
    head = own or find_head(section, model, section.head)

    def flat_head(hidden: torch.Tensor) -> torch.Tensor:
        return head(hidden).flatten()

    def found() -> list[float]:
        numbers = [RewardEngine(body, flat_head, ((place, 1.0),)) for place in range(len(expected))]
        return [float(number.score(np.zeros(1, np.int32), [probe])[0][0]) for number in numbers]

    check_against_plain(model, found, expected)
    return RewardEngine(body, flat_head, weights)


@torch.inference_mode()
def plain_hidden(model: PreTrainedModel, tokens: TokenArray) -> torch.Tensor:
    """The body's own last hidden states [T, H]."""
    return plain_output(model.base_model, tokens)[0][0]


def own_head(section: CustomHeadReward, model: PreTrainedModel) -> nn.Module:
    """A head of the user's class, with its weights from the checkpoint.

    Raises:
        ConfigError: it cannot be made, or its weights are not all there.
    """
    assert section.head_class is not None
    head = model_class(section.head_class)(model.config)
    prefix = f"{section.head}."
    weights = {key.removeprefix(prefix): value for key, value in _tensors(section, prefix).items()}
    try:
        head.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        name = f"reward.model {section.model!r}"
        raise ConfigError(f"{name}: weights {prefix}* do not fit {section.head_class}: {reason}") from None
    return head.to(model.device, model.dtype).eval().requires_grad_(False)


def _tensors(section: CustomHeadReward, prefix: str) -> Mapping[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in checkpoint_files(section.model, section.revision):
        with safe_open(path, "pt") as file:
            found |= {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}  # noqa: SIM118
    return found


def _check_numbers(
    section: CustomHeadReward,
    model: PreTrainedModel,
    probe: TokenArray,
    expected: list[float],
    weights: Sequence[tuple[int, float]],
) -> None:
    """The head gives the numbers that the config asks for; where the model's own output is as many numbers as the head
    gives at the last token, they must be the same."""
    if max(place for place, _ in weights) >= len(expected) or not (section.weights or len(expected) == 1):
        raise ConfigError(
            f"reward.model {section.model!r}: {section.head!r} gives {len(expected)} numbers; name one by its place "
            "with reward.label, or several with reward.label_weights"
        )
    if model.base_model is model:
        return
    output = plain_output(model, probe)
    logits = output.get("logits") if hasattr(output, "get") else output[0]
    if isinstance(logits, torch.Tensor) and logits.numel() == len(expected):
        check_against_plain(model, lambda: expected, logits.float().flatten().tolist())


class OwnForward:
    """A model that is asked as it is, one whole sequence after the other.

    Args:
        model: any.
        output: the field of its output that holds the score.
        weights: which of its numbers the reward is the sum of.
    """

    def __init__(self, model: PreTrainedModel, output: str, weights: Sequence[tuple[int, float]]) -> None:
        self.model = model
        self.output = output
        self.weights = weights
        if self._numbers(probe_tokens(model)).numel() <= max(place for place, _ in weights):
            raise ConfigError(f"{type(model).__name__} gives fewer numbers as {output!r} than the labels need")

    def score(
        self, slots_R: npt.NDArray[np.int32], prefixes: list[TokenArray]
    ) -> tuple[npt.NDArray[np.float64], CallStats]:
        """See `RewardEngine.score`."""
        started_s = time.time()
        found = [self._numbers(prefix).double().cpu().numpy()[None] for prefix in prefixes]
        rewards_R = np.array([weighted(numbers, self.weights)[0] for numbers in found])
        pushed_R = np.array([len(prefix) for prefix in prefixes], np.int32)
        return rewards_R, CallStats.of_prefill(pushed_R, started_s)

    @torch.inference_mode()
    def _numbers(self, tokens: TokenArray) -> torch.Tensor:
        ids = torch.from_numpy(tokens.astype(np.int64))[None].to(self.model.device)
        output: Any = self.model(input_ids=ids, attention_mask=torch.ones_like(ids))
        found = getattr(output, self.output, None)
        if not isinstance(found, torch.Tensor):
            fields = ", ".join(output.keys()) if hasattr(output, "keys") else type(output).__name__
            raise ConfigError(f"the output of {type(self.model).__name__} has no {self.output!r}; it has {fields}")
        return found.flatten()
