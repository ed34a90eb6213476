"""What a training run takes of a checkpoint of the hybrid detector: its network, its weights."""

from collections.abc import Sequence
from pathlib import Path

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.checkpoints.digest import digest_of_archive
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import (
    HybridAdapter,
    config_and_names,
    is_hybrid,
)
from ablate_kit.models.labels.classes import other_classes
from detector.network.model import HybridDetector
from detector.training.recipes.train_recipe import TrainRecipe, load_recipe


def with_network(recipe: TrainRecipe, init: Path | None, resumed: Path | None) -> TrainRecipe:
    """The recipe with a checkpoint's network in place of a preset, or that of the run that is
    resumed, as its own recipe has it."""
    if resumed:
        return recipe.model_copy(update={"model": load_recipe(resumed).model})
    if init is None:
        return recipe  # which says what it lacks
    with open_checkpoint(init) as checkpoint:
        if not is_hybrid(checkpoint):
            raise UserError(f"{checkpoint} is not a hybrid detector")
        config = config_and_names(checkpoint)[0].to_dict()
    own = {name: value for name, value in recipe.model.items() if name != "preset"}
    return recipe.model_copy(update={"model": config | own})


def fill(
    model: HybridDetector, classes: Sequence[str], path: Path
) -> tuple[dict[str, str], list[str]]:
    """Copies the weights of a checkpoint of the same config; says which file it was, and a note
    where its classes are not these."""
    with open_checkpoint(path) as checkpoint:
        source = HybridAdapter.open(checkpoint).module
        sha256, place = digest_of_archive(checkpoint.archive), checkpoint.place
        notes = other_classes(checkpoint.classes or classes, classes)
    wanted, found = model.config.to_dict(), source.config.to_dict()
    for name, value in wanted.items():
        if found[name] != value:
            raise UserError(
                f"{path} has {name} {found[name]!r} and the recipe {value!r}; change the recipe by "
                f"--set model.{name}=..."
            )
    model.load_state_dict(source.state_dict())
    return {"path": str(path), "sha256": sha256, "weights": place}, notes
