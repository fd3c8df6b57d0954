"""Which commit a Hugging Face name means now, so that all processes of a run, and all its starts, load the same."""

from functools import partial

from pipeline.config.decoding import Decoding
from pipeline.config.model import ModelConfig, with_revisions
from pipeline.errors import ConfigError


def at_commits(decoding: Decoding) -> Decoding:
    """The decoding with the `revision` of every Hub name resolved to a commit.

    Raises:
        ConfigError: there is no such model or revision, neither on the Hub nor in the local cache.
    """
    policy, reward = (with_revisions(getattr(decoding, role), partial(_commit, role)) for role in ("policy", "reward"))
    return decoding.model_copy(update={"policy": policy, "reward": reward})


def _commit(role: str, model: ModelConfig) -> str | None:
    from transformers.utils import cached_file, extract_commit_hash  # here, because a run of fakes asks for none

    try:
        path = cached_file(model.model, "config.json", revision=model.revision)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{role}.model {model.hub_name!r}: {str(error).splitlines()[0]}") from None
    return extract_commit_hash(path, None)
