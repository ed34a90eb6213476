"""The recipes that are shipped: those of the folder ``recipes``, named from anywhere."""

from pathlib import Path

from detector.disk.links import beside
from detector.zoo import shipped_recipe

RECIPES = Path(__file__).parent / "recipes"


def recipe_file(path: Path, kind: str) -> Path:
    """The file of ``builtin:NAME``, of the recipes of a kind; of any other path itself.

    Raises ``UserError`` where there is none of that name.
    """
    return shipped_recipe(path, kind, RECIPES)


def named_in(recipe: Path, name: str) -> Path:
    """The file that a recipe names: in its folder, or else, of a shipped one, in the working one.

    A shipped recipe may need what another command makes, such as pretrained parts.
    """
    found = beside(recipe, name)
    if found.exists() or RECIPES.resolve() not in recipe.resolve().parents:
        return found
    return Path(name)
