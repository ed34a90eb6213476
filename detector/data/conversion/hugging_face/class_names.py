"""What the numbers of categories are called, as a data set's features say it."""

import json
from pathlib import Path
from typing import Any

from detector.disk.bounded import SETTINGS, text_of
from detector.errors import UserError
from detector.yaml_values import YamlError, read_yaml


def names_on_card(readme: Path, path: Path, *column: str) -> tuple[str, ...]:
    """Of a column, which may be nested, from 0 on; by ``dataset_info`` on a data set's card.

    Args:
        path: of the data. Where a card is on several configurations, it may have the name of one.
    """
    front = _front_matter(readme)
    told = front.get("dataset_info") if isinstance(front, dict) else None
    known = told if isinstance(told, list) else [told]
    own = [one for one in known if isinstance(one, dict) and one.get("config_name") in path.parts]
    found = {_names_in(one, column, readme) for one in own or known}
    return found.pop() if len(found) == 1 else ()


def names_in_notes(written: bytes, path: Path, *column: str) -> tuple[str, ...]:
    """The same by the JSON that ``datasets`` notes in the table ``path``."""
    try:
        features = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: what it notes on its columns is not JSON: {error}") from None
    return _names_in(features, column, path)


def _names_in(features: object, column: tuple[str, ...], path: Path) -> tuple[str, ...]:
    try:
        for name in column:
            features = _named(features, name)
        return _names(features)
    except RecursionError:
        raise UserError(f"{path}: its features are nested too deeply") from None


def _front_matter(readme: Path) -> Any:
    """What stands between the lines of dashes at the beginning of a data set's card."""
    if not readme.is_file():
        return None
    lines = text_of(readme, SETTINGS).splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    end = next((at for at, line in enumerate(lines[1:]) if line.strip() == "---"), 0)
    try:
        return read_yaml("\n".join(lines[1 : end + 1]), number_keys=True).value
    except YamlError as error:
        raise UserError(f"{readme}:{error.line + 1}: {error.problem}") from None


def _named(features: object, name: str) -> object:
    """The first feature of this name, wherever it is nested.

    In a table's own notes features are named by keys; on a card they are lists of features that
    say their names.
    """
    if isinstance(features, list):
        for one in features:
            if isinstance(one, dict) and one.get("name") == name:
                return one
        inner = features
    elif isinstance(features, dict):
        if isinstance(features.get(name), dict):
            return features[name]
        inner = list(features.values())
    else:
        return None
    return next(filter(None, (_named(one, name) for one in inner)), None)


def _names(feature: object) -> tuple[str, ...]:
    """Of the classes of a label: {"names": [...], "_type": "ClassLabel"}, or on a card
    class_label with names by number."""
    if isinstance(feature, dict):
        names = feature.get("names")
        if feature.get("_type") == "ClassLabel" and isinstance(names, list):
            return tuple(map(str, names))
        label = feature.get("class_label")
        if isinstance(label, dict) and isinstance(label.get("names"), dict):
            names = label["names"]
            return tuple(str(names.get(str(number), "")) for number in range(len(names)))
        feature = list(feature.values())
    inner = map(_names, feature) if isinstance(feature, list) else ()
    return next(filter(None, inner), ())
