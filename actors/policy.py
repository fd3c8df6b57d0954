"""The policy actor: a plain class around one policy engine; placement turns it into a Ray actor."""

from actors.engines.backends import load_engine
from pipeline.config import EngineConfig, ModelConfig
from pipeline.records import Proposals, ProposeCohort


class PolicyActor:
    """Loads the policy once, then draws one segment per row and call.

    Args:
        config: the policy's section of the config.
        engine: the cache's shape; `max_model_len` must be set.
    """

    def __init__(self, config: ModelConfig, engine: EngineConfig) -> None:
        self.engine = load_engine("policy", config, engine)

    def propose(self, cohort: ProposeCohort) -> Proposals:
        """One candidate segment per row of the cohort."""
        return self.engine.propose(cohort)

    def ping(self) -> str:
        """Answers once the model is loaded."""
        return "policy"
