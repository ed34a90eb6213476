"""Mistakes that take no time to find are told before anything is imported that takes seconds."""

from collections.abc import Sequence
from pathlib import Path

from ablate_kit.checkpoints.hub import hub_id, is_hub_id
from ablate_kit.checkpoints.source import FileSource
from ablate_kit.errors import UserError
from ablate_kit.shipped import recipe_file
from detector.zoo import shipped


def check_there(*checkpoints: Path | None) -> None:
    """Raises ``UserError``, with the nearest name, for what names no checkpoint."""
    for path in filter(None, checkpoints):
        if is_hub_id(path):
            hub_id(path)
        elif not (found := shipped(path)).exists():
            FileSource(found).close()


def check_recipe(path: Path, kind: str) -> None:
    """The same for a recipe."""
    if not recipe_file(path, kind).exists():
        raise UserError(f"no recipe {path}")


def check_run(folder: Path) -> None:
    """The same for the folder of a sweep or study."""
    from ablate_kit.sweeps import run_inputs

    run_inputs.check_run(folder)


def check_files(*paths: Path | None) -> None:
    """The same for files of which any may be left out."""
    for path in filter(None, paths):
        if not path.exists():
            raise UserError(f"{path}: no such file")


def check_images(paths: Sequence[Path]) -> None:
    """The same for photographs."""
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: image file is missing")
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the image files in it, such as {path}/*.jpg")
