"""The policy actor: a plain class around one policy engine; placement turns it into a Ray actor."""

from functools import partial

from actors.engines.backends import load_engine
from actors.models.continuous_batching import ContinuousBatching
from actors.models.engine_holder import EngineHolder
from actors.models.process_memory import peak_bytes
from pipeline.config.decoding import EngineConfig
from pipeline.config.model import ModelConfig
from pipeline.protocol import Proposals, ProposeCohort

MAX_CONCURRENT_CALLS = 16  # threads of the actor: a call beyond them waits in its mailbox and joins nothing


class PolicyActor:
    """Loads the policy once, then draws one segment per row and call; several calls may be under way.

    Args:
        config: the policy's section of the config.
        engine: the cache's shape; `slots` and `max_model_len` must be set.
    """

    def __init__(self, config: ModelConfig, engine: EngineConfig) -> None:
        self.calls = ContinuousBatching(EngineHolder("policy", partial(load_engine, "policy", config, engine)))

    def propose(self, cohort: ProposeCohort) -> Proposals:
        """One candidate segment per row of the cohort; raises ModelOutOfMemory."""
        return self.calls.propose(cohort)

    def ping(self) -> str:
        """Answers once the model is loaded."""
        return "policy"

    def peak_memory_bytes(self) -> int:
        """Most memory this process ever held."""
        return peak_bytes()
