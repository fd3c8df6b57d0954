"""The part of the config tree that says how many models there are, and on how much of the cluster."""

from pydantic import Field, ValidationInfo, field_validator

from pipeline.section import Section


class ClusterConfig(Section):
    """What a cluster is divided into. A cell is one coordinator with policy actors and reward actors of its own."""

    cells: int = Field(1, ge=1, description="cells, each with its own coordinator, side by side")
    policies_per_cell: int = Field(1, ge=1, description="policy actors of a cell, each with engine.slots slots")
    rewards_per_cell: int = Field(1, ge=1, description="reward actors of a cell; they share its slots evenly")
    gpus_per_policy: float | None = Field(
        None,
        ge=0.0,
        description="GPUs of a policy actor, at most 1; null: 1 where there are enough, else an even share of what "
        "there is, 0 without GPUs",
    )
    gpus_per_reward: float | None = Field(None, ge=0.0, description="the same for a reward actor")
    policy_nodes: dict[str, str] = Field(
        {}, description="node labels of the GPUs that policies may have, such as {stars-role: policy}; none: any GPU"
    )
    reward_nodes: dict[str, str] = Field({}, description="the same for reward models")
    wait_for_gpus_s: float = Field(
        0.0,
        ge=0.0,
        description="how long GPUs may take to come or to become free; 0: what is not there now is refused at once, so "
        "set it where an autoscaler brings them",
    )

    @field_validator("gpus_per_policy", "gpus_per_reward")
    @classmethod
    def _at_most_one(cls, gpus: float | None, known: ValidationInfo) -> float | None:
        if gpus is not None and gpus > 1:
            raise ValueError(
                "a model runs on one GPU: for more throughput use more cells or actors of 1 GPU each; a model larger "
                "than a GPU needs a GPU with more memory, dtype bfloat16 or a smaller checkpoint (its slot cache is "
                "not split over GPUs, so transformers' tp_plan is no way out)"
            )
        return gpus

    def slots_per_reward(self, slots_per_policy: int) -> int:
        """Slots of each reward actor of a cell, so that together they hold as many as its policies."""
        return -(-slots_per_policy * self.policies_per_cell // self.rewards_per_cell)
