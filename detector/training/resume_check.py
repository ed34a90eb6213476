"""Whether a run can go on from a checkpoint: its batches must be those that would have followed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.config import HybridConfig
from detector.errors import UserError
from detector.training.recipe import TrainRecipe

NEEDED = ("model", "config", "classes", "recipe", "origin", "position", "images")
FIXED = ("batch_size", "accumulate", "seed")  # settings that decide which images a batch holds


def refuse_other_run(
    where: Path,
    checkpoint: Mapping[str, Any],
    recipe: TrainRecipe,
    config: HybridConfig,
    classes: Sequence[str],
    images: int,
) -> None:
    """Raises ``UserError`` for a checkpoint of another run; how it goes on may change."""
    missing = [name for name in NEEDED if name not in checkpoint]
    if missing:
        raise UserError(f"{where} is not the checkpoint of a training run: it has no {missing[0]}")
    if checkpoint["config"] != config.to_json():
        raise UserError(f"{where} was trained with another model config than the recipe's")
    earlier = json.loads(checkpoint["recipe"])["training"]
    now = recipe.training.model_dump(mode="json")
    for name in FIXED:
        if earlier[name] != now[name]:
            raise UserError(
                f"{where} was trained with training.{name} {earlier[name]}, the recipe says "
                f"{now[name]}: a run goes on with the batches it began with"
            )
    if (checkpoint["images"], tuple(checkpoint["classes"])) != (images, tuple(classes)):
        raise UserError(
            f"{where} was trained on {checkpoint['images']} images of "
            f"{len(checkpoint['classes'])} classes; the data now has {images} of {len(classes)}, "
            "or other names for them"
        )
    if ("ema" in checkpoint) != bool(recipe.training.ema):
        has = "an" if "ema" in checkpoint else "no"
        raise UserError(f"{where} has {has} average of the weights; training.ema disagrees")
