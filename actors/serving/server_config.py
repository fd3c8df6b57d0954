"""The config of `jobs.serve`: that of `jobs.align`, and how requests are answered."""

import difflib
from typing import Annotated, Any

from pydantic import Field, field_validator

from pipeline.config.align import AlignConfig
from pipeline.config.cluster import ClusterConfig
from pipeline.config.reward_section import RewardSection
from pipeline.section import Fraction, Section
from pipeline.strategies import ALL

SAFE = (
    *("temperature", "top_p", "top_k", "seed", "stop", "max_tokens", "n"),
    *("id", "show_rejected", "segment_size", "proposals_per_round"),
)
KNOBS = frozenset(name for section in ALL for name in section.model_fields) - {"name"}


class LimitsConfig(Section):
    """What one request may ask for. More is refused, never cut."""

    max_new_tokens: int | None = Field(
        None, ge=1, description="most max_tokens of a request; null: what engine.max_model_len leaves beside its prompt"
    )
    max_choices: int = Field(8, ge=1, description="most answers to one request: n, times prompts for completions")
    max_draws: int = Field(
        64, ge=1, description="most times a strategy may draw one token of a response: max_attempts, n, k, budget"
    )
    max_lanes: int = Field(16, ge=1, description="most engine.slots that one answer may hold")
    max_stops: int = Field(16, ge=0, description="most texts in stop")
    max_stop_characters: int = Field(256, ge=1, description="longest text in stop, in characters")
    max_body_bytes: int = Field(2**20, ge=1, description="largest request body, in bytes")
    max_body_s: float = Field(30.0, gt=0.0, description="seconds that a client may take to send a request's body")

    max_request_s: float = Field(
        300.0,
        gt=0.0,
        description="seconds that a request may take; then it ends with what is there, as for length",
    )
    max_client_share: Fraction = Field(
        0.875,
        gt=0.0,
        description="most of the slots that answers of one client (its key where there are several, else its address) "
        "may hold of those that others leave; 1: all of them",
    )


class ServerConfig(Section):
    """The server."""

    name: str = Field(
        "stars", min_length=1, description="of the application in Serve; two servers on one cluster need two names"
    )
    route_prefix: str = Field(
        "/", pattern=r"^/[A-Za-z0-9._~/-]*$", description="path under which the server answers, where Serve is shared"
    )
    host: str = Field("127.0.0.1", description="address to listen on; the default is this machine only")
    port: int = Field(8000, ge=1, lt=2**16, description="TCP port")
    allowed_hosts: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        description="names under which requests may ask for this server, beside serve.host, localhost and any address; "
        "*.example.com for all below a name, * for any name",
    )
    model_name: str | None = Field(
        None, min_length=1, description="what requests call the model; null: policy.model, of a folder its last part"
    )
    api_key_env: str | None = Field(
        None,
        min_length=1,
        description="environment variable with the key that requests to /v1 must carry, or with several, between "
        "commas; null: none",
    )
    allow: tuple[str, ...] = Field(
        SAFE,
        description="what requests may set: any of these, strategy, knobs of strategies, or all; who may set strategy, "
        "reward_threshold, beta, alpha or max_attempts can switch the alignment off",
    )
    max_ongoing_requests: int = Field(
        128,
        ge=1,
        description="answers under way at once, those that wait for slots included; one more gets 429, unless it is of "
        "a client with less than an even share of them",
    )
    health_check_period_s: float = Field(2.0, gt=0.0, description="seconds between two health checks of a replica")
    health_check_timeout_s: float = Field(
        20.0, gt=0.0, description="a replica that answers no health check for so long is replaced"
    )
    limits: LimitsConfig = LimitsConfig()

    @field_validator("allow", mode="before")
    @classmethod
    def _as_names(cls, allow: Any) -> Any:
        return (allow,) if isinstance(allow, str) else allow

    @field_validator("allow")
    @classmethod
    def _are_known(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        known = KNOBS | {*SAFE, "strategy", "all"}
        for name in allow:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise ValueError(f"{name!r} is nothing that a request can set" + (f"; {near[0]!r} is" if near else ""))
        return allow

    def allows(self, name: str) -> bool:
        """Whether a request may set this field of its own or of its `stars`."""
        return name in self.allow or "all" in self.allow

    @property
    def base_path(self) -> str:
        """The prefix as URLs begin with it: nothing for the root."""
        return self.route_prefix.rstrip("/")


class ServeConfig(AlignConfig):
    """Everything `jobs.serve` needs; it takes the YAML of `jobs.align`, and reads neither input nor output."""

    input: str = Field("-", description="not read by the server")
    output: str = Field("-", description="not written by the server")
    serve: ServerConfig = ServerConfig()

    @field_validator("cluster")
    @classmethod
    def _is_one_cell(cls, cluster: ClusterConfig) -> ClusterConfig:
        if cluster.cells > 1:
            raise ValueError("a server is one cell; start several behind a proxy")
        return cluster

    @field_validator("reward")
    @classmethod
    def _reads_no_columns(cls, reward: RewardSection) -> RewardSection:
        if reward.columns:
            asked = ", ".join(map(repr, reward.columns))
            raise ValueError(f"{reward.title} reads the input columns {asked}, which no request has")
        return reward

    @property
    def reply_folder(self) -> None:
        return None

    @property
    def served_name(self) -> str:
        """What requests call the model."""
        folder_or_name = self.policy.model or self.policy.backend
        is_name = folder_or_name.count("/") == 1 and not folder_or_name.startswith((".", "~", "/"))
        return self.serve.model_name or (folder_or_name if is_name else folder_or_name.rstrip("/").rpartition("/")[2])
