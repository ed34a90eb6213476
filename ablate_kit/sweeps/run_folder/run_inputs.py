"""What a run was made from, as its folder keeps it; a folder goes on with the same alone."""

import re
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from ablate_kit import text as safe
from ablate_kit.checkpoints.hub import is_hub_id
from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.sweeps.run_folder.checked_json import read_json

HUB = "hub"  # the key of the inputs that names a repository with its commit
LIBRARIES = "library_version"  # of the packages that models come from

# What two runs differ in, where it is not called as its key is.
_OTHER = {
    "data": "other images or annotations",
    "clusters": "other clusters of images",
    "max_detections": "another limit of detections",
    "class_names": "other class names",
    "weights": "other weights",
    "threads": "another number of threads",
    "gpu_libraries": "other GPU libraries",
}

_FRAMEWORK = "framework"
_PLACE = re.compile(
    r"(?<=:)[^:]*[/\\]"
)  # the folder of what a framework takes: python:FILE.py:NAME
_DIGEST = re.compile(r"[0-9a-f]{40,}")


def another(name: str) -> str:
    """What a run is of that has another value of an input."""
    return _OTHER.get(name, f"another {name.replace('_', ' ')}")


def check_run(folder: Path) -> None:
    """Raises ``UserError`` for a folder that holds no run."""
    if not folder.exists() and folder.absolute().parent.is_dir():
        near = did_you_mean(folder.name, [one.name for one in folder.absolute().parent.iterdir()])
        raise UserError(f"{folder} is no sweep: there is no such folder{near}")
    if not (folder / "inputs.json").is_file():
        raise UserError(f"{folder} is no sweep: it has no inputs.json")


def inputs_in(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} is no description of a sweep's inputs: it holds no JSON object")
    return value


def as_noted(before: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """``inputs`` as the run that they are compared with would have noted them, so that it goes on
    by its own keys: without what its version did not note, and what runs the model where that lay
    then. Whether it is the same code or configuration, its digest tells."""
    found = {name: one for name, one in inputs.items() if name != LIBRARIES or name in before}
    then, now = (one.get(_FRAMEWORK) for one in (before, inputs))
    if then and now and _PLACE.sub("", str(then)) == _PLACE.sub("", str(now)):
        found[_FRAMEWORK] = then
    return found


def refuse_changed(folder: Path, before: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """Raises ``UserError`` where a folder's run was made from something else."""
    then, now = str(before.get(HUB)), str(inputs.get(HUB))
    if is_hub_id(then) and is_hub_id(now) and then != now:
        raise UserError(
            f"{folder} is a sweep of {then}, and the checkpoint is {now} now; give {then} "
            "to go on, or choose another folder"
        )
    for name in sorted({*before, *inputs}):
        if before.get(name) != inputs.get(name):
            raise UserError(
                f"{folder} is a sweep of {another(name)} "
                f"({_brief(before.get(name), inputs.get(name))}); choose another folder"
            )


def _brief(before: Any, now: Any) -> str:
    """Both values; long ones from the word on in which they begin to differ."""
    texts = [one if isinstance(one, str) else safe.to_json(one) for one in (before, now)]
    words = [text.split(" ") for text in texts]
    pairs = zip(*words, strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    then, after = (
        text if len(text) <= 40 else "..." * (same > 0) + _cut(" ".join(own[same:]))
        for text, own in zip(texts, words, strict=True)
    )
    return f"{then}, now {after}"


def _cut(text: str) -> str:
    longest = 12 if _DIGEST.fullmatch(text) else 60
    return text if len(text) <= longest else f"{text[:longest]}..."
