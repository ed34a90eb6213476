"""Mistakes that take no time to find are told before anything is imported that takes seconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablate_kit.checkpoints.hub import hub_id, is_hub_id
from ablate_kit.checkpoints.source import FileSource
from ablate_kit.errors import UserError
from ablate_kit.models.opening.framework_registry import check_model
from ablate_kit.shipped import named_in, recipe_file
from detector.disk.links import beside
from detector.zoo import BUILTIN, shipped

if TYPE_CHECKING:
    from detector.training.recipes.recipe_file import Override


def check_there(*checkpoints: Path | None) -> None:
    """Raises ``UserError``, with the nearest name, for what names no checkpoint."""
    for path in filter(None, checkpoints):
        if is_hub_id(path):
            hub_id(path)
        elif not (found := shipped(path)).exists():
            FileSource(found).close()


def check_recipe(
    path: Path, kind: str, settings: "Sequence[str | Override] | None", *, other_data: bool = False
) -> None:
    """The same for a recipe, and for the files that it names; not for its data where other data
    take their place."""
    found = _there(path, kind)
    if not found.is_file():  # a pipe, which is read once
        return
    from ablate_kit.sweeps.recipes.named_files import find_from, named_files
    from detector.training.recipes.recipe_file import read_recipe

    given = read_recipe(found, settings or (), _KEYS[kind])
    if kind == "sweep":
        find_from(found, given)
    first, moved = "", []
    for at, name in named_files(given):
        if other_data and at[0] == "data":
            continue
        key = ".".join(map(str, at))
        try:
            _check_named(found, at[-1], name)
        except UserError as error:
            if first and not _is_moved(name):
                continue
            first = first or f"{given.where(at)}: {key}: {error}"
            if not _is_moved(name):
                break
            moved.append(f"--set {key}=PLACE")
    if first:
        # Such a recipe is of a run, perhaps of another machine: all are told at once.
        raise UserError(f"{first}; if it is elsewhere here: {' '.join(moved)}" if moved else first)


def _is_moved(name: str) -> bool:
    """Whether it may only be in another place."""
    return Path(name).is_absolute() and not Path(name).exists()


def _there(path: Path, kind: str) -> Path:
    found = recipe_file(path, kind)
    if not found.exists():
        raise UserError(f"no recipe {path}")
    return found


_KEYS = {
    "sweep": "model, data, ablations",
    "train": "model, data, training",
    "pretrain": "model, data, training",
    "retrain": "base, seeds, arms",
}


def _check_named(recipe: Path, key: int | str, name: str) -> None:
    match key:
        case "checkpoint" | "donor":
            check_there(Path(name))
        case "framework":
            check_model(name)
        case "base":
            # What it names may be changed by the study or by each of its arms.
            _there(Path(name) if name.startswith(BUILTIN) else beside(recipe, name), "train")
        case "pretrained":
            check_files(named_in(recipe, name))
        case _:
            if not Path(name).exists():
                raise UserError(f"no such file or folder: {name}")


def check_run(folder: Path) -> None:
    """The same for the folder of a sweep or study."""
    from ablate_kit.sweeps.run_folder import run_inputs

    run_inputs.check_run(folder)


def check_files(*paths: Path | None, otherwise: str = "no such file") -> None:
    """The same for files of which any may be left out."""
    for path in filter(None, paths):
        if not path.exists():
            raise UserError(f"{path}: {otherwise}")
