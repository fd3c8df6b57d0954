"""The reward actor: a plain class around one reward; placement turns it into a Ray actor."""

from actors.models.process_memory import peak_bytes
from actors.rewards import load_reward
from actors.rewards.interface import RewardContext
from pipeline.config.rewards import RewardConfig
from pipeline.protocol import ScoreCohort, Scores


class RewardActor:
    """Loads a reward once, then gives one number per row and call; as many calls may be under way as its traits say.

    Args:
        config: the reward's section of the config.
        context: what it is told of the rest; `slots` and `max_model_len` must be set.
    """

    def __init__(self, config: RewardConfig, context: RewardContext) -> None:
        self.reward = load_reward(config, context)

    def score(self, cohort: ScoreCohort) -> Scores:
        """The reward of every row of the cohort, or its fault; raises ModelOutOfMemory."""
        return self.reward.score(cohort)

    def ping(self) -> str:
        """Answers once the model is loaded."""
        return "reward"

    def peak_memory_bytes(self) -> int:
        """Most memory this process ever held."""
        return peak_bytes()
