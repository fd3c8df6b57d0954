"""From a process reward's section to its loaded engine: a classifier of tokens, or a language model by two words."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from actors.engines.headed_model import find_head, load_headed, plain_hidden
from actors.engines.packed_linear import pack_linears
from actors.engines.plain_check import check_against_plain, plain_output, probe_tokens
from actors.engines.pretrained import load_model, load_options, make_body, packed
from actors.engines.step_engine import Goodness, StepEngine
from actors.engines.word_logits import WordHead
from pipeline.config.decoding import EngineConfig
from pipeline.config.model_rewards import ProcessReward
from pipeline.errors import ConfigError


def load_token_classifier(
    section: ProcessReward, engine: EngineConfig, class_name: str, label: int | None
) -> StepEngine:
    """Softmax over the labels at each token, or the sigmoid of a head of one number.

    Args:
        label: the place of the label of a good step; None for the last.

    Raises:
        ConfigError: there is no such head, or the model gives other numbers in slots than by itself.
    """
    model = load_headed(section, class_name)
    head = find_head(section, model, section.head)
    probe = probe_tokens(model)
    with torch.inference_mode():
        expected_TL = head(plain_hidden(model, probe)).float()
        own = plain_output(model, probe).logits[0].float() if model.base_model is not model else expected_TL
    place = expected_TL.shape[-1] - 1 if label is None else label
    if place >= expected_TL.shape[-1]:
        raise ConfigError(
            f"reward.model {section.model!r}: {section.head!r} gives {expected_TL.shape[-1]} numbers a token"
        )
    if own.shape == expected_TL.shape:
        check_against_plain(model, lambda: expected_TL.flatten().tolist(), own.flatten().tolist())

    def read(logits_TL: torch.Tensor) -> torch.Tensor:
        logits_TL = logits_TL.float()
        return logits_TL.sigmoid()[..., 0] if logits_TL.shape[-1] == 1 else logits_TL.softmax(-1)[..., place]

    made = packed(model)
    head = find_head(section, made, section.head)
    return _checked(made, section, engine, lambda hidden: read(head(hidden)), read(own), probe)


def load_word_judge(section: ProcessReward, engine: EngineConfig, tokens: Sequence[int]) -> StepEngine:
    """Softmax of the good word against the bad one after each token; raises ConfigError as above."""
    model = load_model("reward", AutoModelForCausalLM, section, **load_options(section))
    probe = probe_tokens(model)
    own = plain_output(model, probe).logits[0][:, list(tokens)].float().softmax(-1)[:, 0]
    head = WordHead(model, tokens)
    made = packed(model)
    pack_linears(head)
    return _checked(made, section, engine, lambda hidden: head(hidden).float().softmax(-1)[..., 0], own, probe)


def _checked(
    model: PreTrainedModel,
    section: ProcessReward,
    engine: EngineConfig,
    goodness: Goodness,
    expected_T: torch.Tensor,
    probe: np.ndarray,
) -> StepEngine:
    steps = StepEngine(make_body(model, section, engine), goodness, engine)
    places = list(range(len(probe)))

    def found() -> list[float]:
        return steps.score(np.zeros(1, np.int32), [probe], [places])[0][0].tolist()

    check_against_plain(model, found, expected_T.tolist())
    return steps
