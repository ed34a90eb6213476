"""Whether a run can resume from a checkpoint: with the batches that would have followed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detector.config import HybridConfig
from detector.errors import UserError
from detector.training.task import Task

NEEDED = ("model", "classes", "recipe", "origin", "position", "images")


def refuse_other_run(
    where: Path, checkpoint: Mapping[str, Any], task: Task, data: Mapping[str, str]
) -> None:
    """Raises ``UserError`` for a checkpoint of another run; ``data`` as of the ``Trainer``."""
    about, classes, images = task.about(), task.classes, len(task.items)
    for name in (*NEEDED, *about, task.best_name):
        if name not in checkpoint:
            raise UserError(f"{where} is not the checkpoint of a {task.kind} run: it has no {name}")
    for name, value in about.items():
        if not _same_config(checkpoint[name], value):
            raise UserError(f"{where} was trained with another model config than the recipe's")
    earlier, now = json.loads(checkpoint["recipe"]), task.recipe.resolved()
    for section, name in task.must_not_change():
        # A checkpoint of an earlier version may lack a setting: it had no other value then.
        before, after = earlier.get(section, {}).get(name, now[section][name]), now[section][name]
        if before != after:
            raise UserError(
                f"{where} was trained with {section}.{name} {before!r}, the recipe says {after!r}: "
                "a run resumes with what it began with"
            )
    if (checkpoint["images"], tuple(checkpoint["classes"])) != (images, tuple(classes)):
        raise UserError(
            f"{where} was trained on {checkpoint['images']} images of "
            f"{len(checkpoint['classes'])} classes; the data now has {images} of {len(classes)}, "
            "or other names for them"
        )
    noted = checkpoint.get("data")
    noted = noted if isinstance(noted, dict) else {}  # earlier versions noted none
    for name, digest in data.items():
        if noted.get(name, digest) != digest:
            raise UserError(
                f"{where} is of other {name} images or annotations than are there now: a run "
                "resumes with what it began with"
            )
    if ("ema" in checkpoint) != bool(task.recipe.training.ema):
        has = "an" if "ema" in checkpoint else "no"
        raise UserError(f"{where} has {has} average of the weights; training.ema disagrees")


def _same_config(earlier: object, now: str) -> bool:
    """Whether two configs in JSON make one network: earlier versions name fewer settings, which had
    no other value then."""
    try:
        return HybridConfig.from_dict(json.loads(str(earlier))).to_json() == now
    except (ValueError, TypeError, UserError):
        return False
