"""A folder laid out as huggingface_hub's cache, so that models have Hub names without a Hub."""

import shutil


def commit_model(cache, name, folder, sha, branch="main"):
    """`folder` becomes the commit `sha` of the model `name`, at which its branch is from now on; gives its folder."""
    place = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / sha)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / branch).write_text(sha)
    return place / "snapshots" / sha
