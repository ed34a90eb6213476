"""The files that recipes name, by the keys that name them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ablate_kit.checkpoints.hub import PREFIX
from ablate_kit.errors import UserError
from ablate_kit.metrics.clusters import is_file
from ablate_kit.models.frameworks import own_code
from ablate_kit.models.opening.framework_registry import takes_a_file
from detector.disk.links import beside
from detector.training.recipes.recipe_file import Given
from detector.yaml_values import Path as Place
from detector.zoo import BUILTIN

_IMAGE_FILES = ("annotations", "images", "root", "classes", "yaml")
_OF_SPLITS = ("train_annotations", "train_images", "val_annotations", "val_images")
_FILES = {
    "model": ("checkpoint", "framework", "class_names"),
    "data": (*_IMAGE_FILES, *_OF_SPLITS),
    "reference": _IMAGE_FILES,
    "evaluation": ("cluster",),
}
_KEYS = {"donor", *(key for keys in _FILES.values() for key in keys)}


def find_from(recipe: Path, given: Given) -> None:
    """Puts the recipe's folder before the files that it names itself."""
    for at, values, named in _named(given):
        key, place = str(at[-1]), given.where(at)
        if not place.startswith(f"{recipe}:"):
            continue
        before, name = _file_in(key, named)
        if not name:
            continue
        found = beside(recipe, name)
        if not found.exists() and Path(name).exists():
            setting = ".".join(map(str, at))
            raise UserError(
                f"{place}: no {found}: a recipe's files are found from its own folder. To mean "
                f"{name} from here, give --set {setting}={named}"
            )
        values[key] = f"{before}{found}"


def _file_in(key: str, named: str) -> tuple[str, str]:
    """What stands before the name of a file, and the name; empty where none is named."""
    framework, colon, name = named.partition(":") if key == "framework" else ("", "", named)
    if name.startswith((BUILTIN, PREFIX)) or framework == own_code.NAME:
        return named, ""
    if framework and not takes_a_file(framework):
        return named, ""
    if key == "cluster" and not is_file(name):
        return named, ""
    return framework + colon, name


def below(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """A section's values with the files that it names below a folder, unless they are absolute."""

    def place(key: str, one: Any) -> Any:
        if key not in _KEYS or not isinstance(one, str):
            return one
        before, name = _file_in(key, one)
        return f"{before}{folder / name}" if name else one

    return {key: place(key, one) for key, one in values.items()}


def named_files(given: Given) -> Iterator[tuple[Place, str]]:
    """Where a recipe names files, and the names."""
    for at, _, named in _named(given):
        yield at, named


def _named(given: Given) -> Iterator[tuple[Place, dict[str, Any], str]]:
    places: list[tuple[Place, Any]] = [
        ((section, key), given.values.get(section))
        for section, keys in _FILES.items()
        for key in keys
    ]
    places.append((("base",), given.values))  # of retraining
    data = given.values.get("data")
    if isinstance(data, dict) and data.get("kind") == "folder":  # of pretraining
        places += [(("data", "train"), data), (("data", "val"), data)]
    for section, key in (("ablations", "donor"), ("arms", "pretrained")):
        lines = given.values.get(section)
        for number, line in enumerate(lines if isinstance(lines, list) else ()):
            places.append(((section, number, key), line))
    for at, values in places:
        named = values.get(at[-1]) if isinstance(values, dict) else None
        if isinstance(named, str) and (at[-1] != "cluster" or is_file(named)):
            yield at, values, named
