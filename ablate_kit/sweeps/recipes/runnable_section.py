"""What a recipe says of a model, of a file that has to be converted to run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.classes import read_class_names
from ablate_kit.models.naming import name_of
from ablate_kit.models.runnable import runnable
from ablate_kit.sweeps.recipes.sweep_recipe import ModelSection


@contextmanager
def runnable_section(
    section: ModelSection, beside: Path | None, *, trusted: bool
) -> Iterator[ModelSection]:
    """A section of a recipe, of a file that has to be converted the folder: one that stays beside
    the run's folder, for later runs as well, or where that is None one that is gone afterwards."""
    path = Path(section.checkpoint)
    names = read_class_names(section.class_names) if section.class_names else None
    folder = beside.parent / f"{name_of(path)}-transformers" if beside else None
    with (
        open_checkpoint(path, section.weights) as given,
        runnable(given, section.framework, trusted=trusted, classes=names, folder=folder) as runs,
    ):
        if runs is given:
            yield section
        else:
            yield section.model_copy(update={"checkpoint": str(runs.path), "weights": None})
