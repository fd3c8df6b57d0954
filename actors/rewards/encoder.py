"""An encoder with a classification head: reads question and answer whole at every call, in padded batches.

Invariant: a row is padded to a length of its own, so that its score does not depend on the rows beside it.
"""

import time

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from actors.engines.model_classes import own_config
from actors.engines.pretrained import load_model, load_options, packed
from actors.engines.reward_engine import weighted
from actors.engines.shapes import MIN_ROWS, SHAPES, rounded_up
from actors.rewards.conversations import RESPONSE
from actors.rewards.interface import ModelNeeds, RewardContext, RewardTraits
from actors.rewards.labels import label_weights
from actors.rewards.model_checks import CLASSIFIER, check_head, classifier_shape
from actors.rewards.pairs import PairReader, TokenPair
from pipeline.config.model_rewards import EncoderReward
from pipeline.errors import ConfigError, RowError
from pipeline.protocol import CallStats, ScoreCohort, Scores
from pipeline.records import PromptRow

PADDED_TO = 32  # tokens: rows of one such length go in one forward


class PairReward:
    """Scores question and answer.

    Args:
        reader: makes them tokens.
        model: the classifier.
        weights: which logits the reward is the sum of, and how much each counts.
    """

    def __init__(self, reader: PairReader, model: PreTrainedModel, weights: tuple[tuple[int, float], ...]) -> None:
        self.reader = reader
        self.model = model.eval()
        self.weights = weights
        self.forward_tokens = SHAPES[model.device.type].forward_tokens

    def score(self, cohort: ScoreCohort) -> Scores:
        """The reward of each row; a row that cannot be read is not scored."""
        started_s = time.time()
        rewards_R, pushed_R = np.full(len(cohort), np.nan), np.zeros(len(cohort), np.int32)
        pairs, faults = self.reader.read(cohort)
        for places in self._batches(pairs):
            rewards_R[places] = self._forward([pairs[place] for place in places])
            pushed_R[places] = [len(pairs[place].ids) for place in places]
        return Scores(rewards_R, CallStats.of_prefill(pushed_R, started_s), faults)

    def _batches(self, pairs: dict[int, TokenPair]) -> list[list[int]]:
        """Places of rows of one padded length, longest first, no more at once than a forward may hold."""
        by_length: dict[int, list[int]] = {}
        for place, pair in sorted(pairs.items(), key=lambda item: -len(item[1].ids)):
            by_length.setdefault(rounded_up(len(pair.ids), PADDED_TO), []).append(place)
        batches = []
        for length, places in by_length.items():
            most = max(1, self.forward_tokens // length)
            batches += [places[first : first + most] for first in range(0, len(places), most)]
        return batches

    @torch.inference_mode()
    def _forward(self, pairs: list[TokenPair]) -> npt.NDArray[np.float64]:
        """Where there are fewer rows than matrix kernels treat alike, the last one is repeated."""
        filled = pairs + pairs[-1:] * (MIN_ROWS - len(pairs))
        length = min(rounded_up(max(len(pair.ids) for pair in pairs), PADDED_TO), self.reader.max_tokens)
        inputs = {"input_ids": np.full((len(filled), length), self.reader.pad_token_id, np.int64)}
        inputs["attention_mask"] = np.zeros_like(inputs["input_ids"])
        if pairs[0].types is not None:
            inputs["token_type_ids"] = np.zeros_like(inputs["input_ids"])
        for row, pair in enumerate(filled):
            inputs["input_ids"][row, : len(pair.ids)] = pair.ids
            inputs["attention_mask"][row, : len(pair.ids)] = 1
            if pair.types is not None:
                inputs["token_type_ids"][row, : len(pair.ids)] = pair.types
        tensors = {name: torch.from_numpy(array).to(self.model.device) for name, array in inputs.items()}
        logits_RL = self.model(**tensors).logits[: len(pairs)].double().cpu().numpy()
        return weighted(logits_RL, self.weights)


def traits(section: EncoderReward, context: RewardContext) -> RewardTraits:
    """It has a tokenizer of its own."""
    return RewardTraits(reads_text=True)


def needs(section: EncoderReward, config: PreTrainedConfig, context: RewardContext) -> ModelNeeds:
    """An encoder with its head, the labels that are named, a tokenizer, a template that is one."""
    model = classifier_shape(section, config)
    _check_encoder(section, model)
    label_weights(section.model, section, config)
    check_head(section, model)
    PairReader(section, config)
    return ModelNeeds(CLASSIFIER, keeps_slots=False, bounds_length=False)


def load(section: EncoderReward, context: RewardContext) -> PairReward:
    """The tokenizer and the model."""
    model = packed(load_model("reward", AutoModelForSequenceClassification, section, **load_options(section)))
    _check_encoder(section, model)
    return PairReward(PairReader(section, model.config), model, label_weights(section.model, section, model.config))


def shown(section: EncoderReward, context: RewardContext, row: PromptRow) -> str:
    """What the model reads of a row, as its tokenizer gives it back."""
    reader = PairReader(section, own_config(section))
    place = "xqzx"  # a word that stays one in every tokenizer's way of writing
    pairs, faults = reader.read(ScoreCohort.of_texts([row], [place], [True]))
    if faults:
        raise RowError(*faults[0])
    before, _, after = reader.tokenizer.decode(pairs[0].ids, clean_up_tokenization_spaces=False).rpartition(place)
    return f"{before}{RESPONSE}{after} (at most {reader.max_tokens} tokens, truncation: {section.truncation})"


def _check_encoder(section: EncoderReward, model: PreTrainedModel) -> None:
    if hasattr(model, "score"):
        raise ConfigError(
            f"reward.model {section.model!r}: {type(model).__name__} is a decoder, whose score is at its last token; "
            "that is reward.kind: classifier"
        )
