"""The recipes that are shipped: those of the folder ``recipes``, named from anywhere."""

from pathlib import Path

from detector.zoo import shipped_recipe

RECIPES = Path(__file__).parent / "recipes"


def recipe_file(path: Path, kind: str) -> Path:
    """The file of ``builtin:NAME``, of the recipes of a kind; of any other path itself.

    Raises ``UserError`` where there is none of that name.
    """
    return shipped_recipe(path, kind, RECIPES)
