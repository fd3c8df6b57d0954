"""Classes of models, by the name that transformers has for them, or by an import path; and models in shape only."""

import importlib
import importlib.util
import sys
import zlib
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from pipeline.config.model import ModelConfig
from pipeline.errors import ConfigError


def model_class(name: str) -> Any:
    """`AutoModelForSequenceClassification`, or `module:Name`, or `path/to/file.py:Name`.

    Raises:
        ConfigError: there is none.
    """
    place, separator, attribute = name.rpartition(":")
    try:
        module = _module(place) if separator else transformers
        return getattr(module, attribute)
    except (ImportError, AttributeError, OSError, SyntaxError) as error:
        raise ConfigError(f"no class {name!r}: {type(error).__name__}: {error}") from None


def own_config(section: ModelConfig) -> PreTrainedConfig:
    """A model's own config; raises OSError or ValueError where there is none."""
    trusts = section.trusts_code
    return AutoConfig.from_pretrained(section.model, revision=section.revision, trust_remote_code=trusts)


def shape_only(name: str, config: PreTrainedConfig, section: ModelConfig) -> PreTrainedModel:
    """A section's model without weights: as large as they say, and holding nothing."""
    cls, dtype = model_class(name), getattr(torch, section.dtype)
    with torch.device("meta"):
        if hasattr(cls, "from_config"):
            options = {"trust_remote_code": True} if section.trusts_code else {}
            return cls.from_config(config, dtype=dtype, **options)
        return cls(config).to(dtype)


def _module(place: str) -> Any:
    """A module by its name; a file becomes one, known by its path, so that what it defines can be pickled."""
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place).expanduser().resolve()
    name = f"stars_reward_{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
