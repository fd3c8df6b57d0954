"""What the section of every reward has."""

from typing import Any, ClassVar

from pipeline.config.model import ModelConfig
from pipeline.section import Section


class RewardSection(Section):
    """The base of every kind's section. `throughput_only` are the keys that decide no score."""

    throughput_only: ClassVar[frozenset[str]] = frozenset()

    kind: str

    @property
    def title(self) -> str:
        """What a person calls it."""
        return self.kind

    @property
    def is_fake(self) -> bool:
        return False

    @property
    def models(self) -> tuple[ModelConfig, ...]:
        """The models that it loads in its own process."""
        return ()

    @property
    def files(self) -> tuple[str, ...]:
        """The files beside its models that decide a score: templates, code."""
        return ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The input columns that it reads beside the conversation."""
        return ()

    @property
    def is_remote(self) -> bool:
        """Whether it asks an endpoint of somebody else, which may cost money."""
        return False

    @property
    def keeps_replies(self) -> bool:
        """Whether it wants a folder of the run for what it has paid for."""
        return False

    @property
    def cpus(self) -> float:
        """CPUs that its actor asks Ray for."""
        return 0.0

    @property
    def width_key(self) -> str | None:
        """The key that makes it faster where no GPU does; None where one does."""
        return None

    def deciding(self) -> dict[str, Any]:
        """The keys that decide a score, as JSON."""
        return self.model_dump(mode="json", exclude=set(self.throughput_only))

    @property
    def longest_call_s(self) -> float:
        """Seconds that one call may take where it sets a limit itself; 0 where it sets none."""
        return 0.0
