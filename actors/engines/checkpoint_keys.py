"""What a checkpoint's files say of the weights in them, without reading any."""

import json
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import snapshot_download
from safetensors import safe_open

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


def checkpoint_keys(model: str) -> frozenset[str] | None:
    """Names of a local folder's weights; None where its files do not say."""
    folder = Path(model).expanduser()
    if (folder / INDEX).is_file():
        return frozenset(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"])
    if (folder / SINGLE).is_file():
        with safe_open(folder / SINGLE, "pt") as file:
            return frozenset(file.keys())
    return None


def checkpoint_files(model: str, revision: str | None) -> list[Path]:
    """A checkpoint's files of safetensors; those of a name that is no folder are fetched if need be."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=["*.safetensors"]))
    return sorted(folder.glob("*.safetensors"))


def absent_weights(model: str, wanted: Iterable[str]) -> list[str]:
    """Those of some weights that a checkpoint does not have under their names, as far as its files say."""
    keys = checkpoint_keys(model)
    return [] if keys is None else sorted(set(wanted) - keys)
