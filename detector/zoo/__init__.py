"""Checkpoints trained by this project and shipped with it, each with its recipe and history."""

from pathlib import Path

from detector.errors import UserError, did_you_mean

SHAPES_TINY = Path(__file__).parent / "shapes_tiny" / "model.safetensors"
"""The tiny hybrid detector, trained on the built-in shapes (recipes/train/shapes_tiny.yaml)."""

BUILTIN = "builtin:"
"""Begins the name of a checkpoint or a recipe that is shipped, wherever one is asked for."""


def shipped(path: Path) -> Path:
    """The file of a shipped checkpoint, such as ``builtin:shapes_tiny``; of any other path itself.

    Raises ``UserError`` where none has that name.
    """
    if not str(path).startswith(BUILTIN):
        return path
    known = {one.parent.name: one for one in Path(__file__).parent.glob("*/model.safetensors")}
    return _named(str(path), known, "checkpoint")


def shipped_recipe(path: Path, kind: str, folder: Path) -> Path:
    """The same for a recipe of a kind, such as ``sweep``; ``folder`` holds one for each kind."""
    if not str(path).startswith(BUILTIN):
        return path
    return _named(str(path), {one.stem: one for one in (folder / kind).glob("*.yaml")}, "recipe")


def _named(text: str, known: dict[str, Path], what: str) -> Path:
    name = text.removeprefix(BUILTIN)
    if name not in known:
        near = did_you_mean(name, known) or f"; there is {', '.join(sorted(known))}"
        raise UserError(f'no built-in {what} "{name}"{near}')
    return known[name]
