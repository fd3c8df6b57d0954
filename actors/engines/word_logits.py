"""A language model's logits of a few words, without those of all others."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from actors.engines.plain_check import check_against_plain, plain_output, probe_tokens
from actors.engines.pretrained import load_model, load_options, make_body, packed
from actors.engines.reward_engine import RewardEngine
from pipeline.config.decoding import EngineConfig
from pipeline.config.model_rewards import RewardModel


class WordHead(nn.Module):
    """The rows of a model's output layer for some tokens, and what the model does to its logits after it.

    Shapes: [*, H] → [*, W].
    """

    def __init__(self, model: PreTrainedModel, tokens: Sequence[int]) -> None:
        super().__init__()
        whole = model.get_output_embeddings()
        weight_WH = whole.weight[list(tokens)].detach().clone()
        self.rows = nn.Linear(weight_WH.shape[1], len(tokens), whole.bias is not None)
        self.rows.to(weight_WH.device, weight_WH.dtype).requires_grad_(False)
        self.rows.weight.data = weight_WH
        if whole.bias is not None:
            self.rows.bias.data = whole.bias[list(tokens)].detach().clone()
        config = model.config.get_text_config()
        self.softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self.scale: float = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = self.rows(hidden) * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def load_word_engine(section: RewardModel, engine: EngineConfig, tokens: Sequence[int]) -> RewardEngine:
    """An engine that gives the first word's logit, less the second's where there is one.

    Raises:
        ConfigError: the model gives other logits in it than by itself.
    """
    model = load_model("reward", AutoModelForCausalLM, section, **load_options(section))
    probe = probe_tokens(model)
    expected = plain_output(model, probe).logits[0, -1, list(tokens)].tolist()
    head = WordHead(model, tokens)
    body = make_body(packed(model), section, engine)

    def found() -> list[float]:
        words = [RewardEngine(body, head, ((word, 1.0),)) for word in range(len(tokens))]
        return [float(word.score(np.zeros(1, np.int32), [probe])[0][0]) for word in words]

    check_against_plain(model, found, expected)
    return RewardEngine(body, head, ((0, 1.0), (1, -1.0))[: len(tokens)])
