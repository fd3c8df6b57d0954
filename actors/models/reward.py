"""The reward actor: a plain class around one reward engine; placement turns it into a Ray actor."""

from actors.models.engine_holder import EngineHolder
from actors.models.process_memory import peak_bytes
from pipeline.config.decoding import EngineConfig, RewardConfig
from pipeline.protocol import ScoreCohort, Scores


class RewardActor:
    """Loads the reward model once, then gives one scalar per row and call.

    Args:
        config: the reward model's section of the config.
        engine: the cache's shape; `slots` and `max_model_len` must be set.
    """

    def __init__(self, config: RewardConfig, engine: EngineConfig) -> None:
        self.holder = EngineHolder("reward", config, engine)

    def score(self, cohort: ScoreCohort) -> Scores:
        """The reward of every row of the cohort; raises ModelOutOfMemory."""
        with self.holder.engine() as engine:
            return engine.score(cohort)

    def ping(self) -> str:
        """Answers once the model is loaded."""
        return "reward"

    def peak_memory_bytes(self) -> int:
        """Most memory this process ever held."""
        return peak_bytes()
