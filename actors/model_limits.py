"""How many tokens of prompt and response both models can hold, read from their configs without loading them."""

from transformers import AutoConfig

from pipeline.config import AlignConfig
from pipeline.errors import ConfigError

FAKE_LIMIT = 4096


def with_max_model_len(config: AlignConfig) -> AlignConfig:
    """The config with `engine.max_model_len` filled in from the two models' own position limits.

    Raises:
        ConfigError: a model cannot hold the wanted length, or its config cannot be read.
    """
    if config.policy.backend == "fake":
        limits = {"fake models": FAKE_LIMIT}
    else:
        limits = {role: _position_limit(role, getattr(config, role).model) for role in ("policy", "reward")}
    role, limit = min(limits.items(), key=lambda item: item[1])
    wanted = config.engine.max_model_len
    if wanted is not None and wanted > limit:
        raise ConfigError(f"engine.max_model_len = {wanted} is more than the {limit} positions of {role}")
    if config.generation.max_new_tokens >= (wanted or limit):
        raise ConfigError(
            f"generation.max_new_tokens = {config.generation.max_new_tokens} leaves no room for a prompt in the "
            f"{wanted or limit} tokens of engine.max_model_len"
        )
    return config.model_copy(update={"engine": config.engine.model_copy(update={"max_model_len": wanted or limit})})


def _position_limit(role: str, model: str) -> int:
    try:
        config = AutoConfig.from_pretrained(model).get_text_config()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{role}.model {model!r}: {str(error).splitlines()[0]}") from None
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None:
        raise ConfigError(f"{role}.model {model!r} names no max_position_embeddings; set engine.max_model_len")
    return int(limit)
