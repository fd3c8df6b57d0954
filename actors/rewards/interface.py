"""What a reward is: it reads conversations in its own process, by its own tokenizer and template, and gives numbers."""

from dataclasses import dataclass
from typing import Protocol

from pipeline.config.decoding import Decoding, EngineConfig, PromptAs
from pipeline.config.model import ModelConfig
from pipeline.protocol import ScoreCohort, Scores


@dataclass(frozen=True, slots=True)
class RewardTraits:
    """What a kind can do.

    Args:
        reads_text: it reads the response's text; otherwise the policy's tokens are enough.
        rows_per_call: most rows that are worth sending in one call; None for as many as there are.
        max_calls: calls that it works on at once.
    """

    reads_text: bool
    rows_per_call: int | None = None
    max_calls: int = 1


@dataclass(frozen=True, slots=True)
class RewardContext:
    """What a reward is told of the rest of the config.

    Args:
        policy: whose tokens the responses are; None where they come as text only.
        engine: the shape of a cache; `slots` are the reward actor's own.
        prompt_as: how a text prompt is read.
        num_actors: reward actors of the run, which share what there is only once.
        reply_folder: where what was paid for may be kept; None for nowhere.
    """

    policy: ModelConfig | None
    engine: EngineConfig
    prompt_as: PromptAs
    num_actors: int = 1
    reply_folder: str | None = None

    @property
    def max_tokens(self) -> int:
        """Most tokens of a prompt with its response; as good as no limit where that is not known yet."""
        return self.engine.max_model_len or 2**31

    @property
    def num_kept_prompts(self) -> int:
        """Prompts that a reader keeps as it read them, since a row comes again and again."""
        return 4 * (self.engine.slots or 1)

    @classmethod
    def of(cls, config: Decoding) -> "RewardContext":
        engine = config.engine if config.engine.slots is None else config.reward_engine
        num_actors = config.cluster.cells * config.cluster.rewards_per_cell
        return cls(config.policy, engine, config.prompt_as, num_actors, config.reply_folder)


@dataclass(frozen=True, slots=True)
class ModelNeeds:
    """What is to be known of a model before it is loaded.

    Args:
        class_name: its class, see `actors.engines.model_classes`.
        keeps_slots: it keeps what it computed, slot by slot.
        bounds_length: its positions bound how long a prompt with its response may be.
    """

    class_name: str
    keeps_slots: bool = True
    bounds_length: bool = True


class Reward(Protocol):
    """A loaded reward, called by as many threads at once as its traits say."""

    def score(self, cohort: ScoreCohort) -> Scores:
        """One number per row, or the row's fault."""
        ...
