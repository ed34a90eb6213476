"""Settings that make a model have given shapes, found by building it."""

from collections.abc import Mapping
from typing import Any

import pytest

from ablate_kit.errors import UserError
from ablate_kit.shrinking.config_search import Shapes, settings_for, with_settings

CONFIG = {"width": 8, "hidden": 32, "layers": 2, "ratio": 2.0, "part": {"sizes": [4, 8]}}


def build(config: Mapping[str, Any]) -> Shapes | None:
    """Two layers of one hidden size, a branch whose size is a ratio, and a part with sizes."""
    if config["width"] % 4:
        return None
    shapes = {f"{i}.in": (config["hidden"], config["width"]) for i in range(config["layers"])}
    shapes |= {f"{i}.out": (config["width"], config["hidden"]) for i in range(config["layers"])}
    shapes["branch"] = (int(config["ratio"] * config["width"]),)
    return shapes | {f"part.{i}": (size,) for i, size in enumerate(config["part"]["sizes"])}


def changed(**wanted: tuple[int, ...]) -> Shapes:
    return (build(CONFIG) or {}) | {name.replace("_", "."): one for name, one in wanted.items()}


def test_a_setting_of_several_layers() -> None:
    wanted = {f"{i}.{name}": (30, 8) if name == "in" else (8, 30)
              for i in range(2) for name in ("in", "out")}  # fmt: skip
    found = settings_for(CONFIG, (build(CONFIG) or {}) | wanted, build)
    assert found.changes == {("hidden",): 30}
    assert not found.wrong


def test_a_ratio_and_a_size_in_a_list_of_a_part() -> None:
    found = settings_for(CONFIG, changed(branch=(12,), part_1=(6,)), build)
    assert found.changes == {("ratio",): 1.5, ("part", "sizes", 1): 6}
    assert with_settings(CONFIG, found.changes)["part"] == {"sizes": [4, 6]}
    assert CONFIG["part"] == {"sizes": [4, 8]}


def test_a_setting_that_is_twice_the_size() -> None:
    def halved(config: Mapping[str, Any]) -> Shapes:
        return {"gate": (config["both"] // 2, 3)}

    found = settings_for({"both": 160, "other": 7}, {"gate": (60, 3)}, halved)
    assert (found.changes, found.wrong) == ({("both",): 120}, ())


def test_what_stands_in_the_way_is_told() -> None:
    wanted = (build(CONFIG) or {}) | {"0.in": (30, 8), "0.out": (8, 30)}
    found = settings_for(CONFIG, wanted, build)
    assert found.wrong == ("0.in", "0.out")
    assert found.obstacle is not None
    assert (found.obstacle.setting, found.obstacle.value) == ("hidden", 30)
    assert (found.obstacle.tensor, found.obstacle.wanted) == ("1.in", (32, 8))


def test_a_shape_of_no_setting() -> None:
    found = settings_for(CONFIG, changed(other=(3,)), build)
    assert (found.changes, found.wrong, found.obstacle) == ({}, ("other",), None)


def test_a_model_that_cannot_be_built() -> None:
    with pytest.raises(UserError, match="from its own configuration"):
        settings_for(CONFIG | {"width": 7}, {}, build)
