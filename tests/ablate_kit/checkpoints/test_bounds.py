"""However a file is nested, wide or cyclic, showing it is little work."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ablate_kit.checkpoints import CheckpointError, UnresolvedObject, open_checkpoint, show
from ablate_kit.checkpoints.formats.safetensors_file import parsed_header
from ablate_kit.checkpoints.pickle.interpret import interpret
from ablate_kit.checkpoints.tied_copies import tied_copies
from ablate_kit.reports.checkpoint_reports.metadata_outline import outline

from .pickle.test_interpret import calls_in

STEPS = 400_000  # calls that showing one value may take


def sets_in_sets(width: int, depth: int) -> Any:
    value: Any = {1}
    for _ in range(depth):
        value = {UnresolvedObject("", "key", (value,)) for _ in range(width)}
    return value


def set_of_itself() -> set[Any]:
    value: set[Any] = set()
    for name in "abc":
        value.add(UnresolvedObject("", name, (value, [value], {"k": value})))
    return value


VALUES = {
    "sets in sets": lambda: sets_in_sets(60, 3),
    "a set of itself": set_of_itself,
    "sets in sets, deep": lambda: sets_in_sets(2, 14),
    "many sets": lambda: [[{f"{i}{j}" for i in range(60)}] for j in range(1000)],
    "wide sets": lambda: [
        {UnresolvedObject("", "k", ([i] * 300,)) for _ in range(64)} for i in range(300)
    ],
}  # fmt: skip


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_is_shown_in_bounded_work(value: Any) -> None:
    made = value()
    assert calls_in(lambda: show(made)) < STEPS
    assert len(show(made)) <= 200
    assert show(made) == show(value())


def test_small_sets_are_shown_as_they_are() -> None:
    assert show({3, 1, 2}) == "{1, 2, 3}"
    assert show([{"b", "a"}, {UnresolvedObject("", "key", ({1},))}]) == (
        "[{'a', 'b'}, {key(<set of 1 items>)}]"
    )


def test_an_outline_ends_however_often_a_table_is_in_itself() -> None:
    inner: dict[str, Any] = {str(i): None for i in range(6)}
    for key in inner:
        inner[key] = inner
    lines = list(outline(inner, 10**6))
    assert len(lines) == 10_001
    assert max(len(path) for path, _ in lines) <= 64


def test_a_pickle_of_too_many_steps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablate_kit.checkpoints.pickle.interpret._MOST_STEPS", 1000)
    assert interpret(b"N0" * 499 + b"N.") == (None, 1000)
    with pytest.raises(CheckpointError, match="a program of more than 1,000 steps"):
        interpret(b"N0" * 500 + b"N.")


def test_keys_whose_count_hides_a_double_are_still_refused() -> None:
    doubled = ['{"a":1,"a":2}', '{"a" :1,"a":2}', '{"b":{"a":1,"a":2}}', '{"x\\":":1,"a":1,"a":2}']
    for text in doubled:
        with pytest.raises(ValueError, match="occurs twice"):
            parsed_header(text.encode())
    assert parsed_header(b'{"a\\":":{"b":[{"c":1}]}}') == {'a":': {"b": [{"c": 1}]}}


def test_sharing_is_told_of_views_that_overlap(tmp_path: Path) -> None:
    base = torch.zeros(100)
    views = {"all": base[:60], "first": base[:10], "second": base[10:20], "inner": base[12:14],
             "last": base[60:], "other": torch.ones(3)}  # fmt: skip
    torch.save(views, tmp_path / "a.pth")
    with open_checkpoint(tmp_path / "a.pth") as checkpoint:
        found = {name: set(checkpoint.sharing(name)) for name in views}
    assert found == {
        "all": {"first", "second", "inner"}, "first": {"all"}, "second": {"all", "inner"},
        "inner": {"all", "second"}, "last": set(), "other": set(),
    }  # fmt: skip


def test_twins_are_found_in_one_look(tmp_path: Path) -> None:
    large = torch.arange(3000.0)
    near, zeros = large + (large == 2999), torch.zeros(3000)
    tensors = {"a": large, "b": large.clone(), "near": near, "c": large.clone(),
               "zeros": zeros, "more": zeros.clone(), "short": large[:5].clone()}  # fmt: skip
    save_file(tensors, tmp_path / "a.safetensors")
    with open_checkpoint(tmp_path / "a.safetensors") as checkpoint:
        found = tied_copies(checkpoint, ["a", "c", "near", "zeros", "short"])
    assert {name: sorted(equal) for name, equal in found.items()} == {
        "a": ["a", "b", "c"], "c": ["a", "b", "c"],
    }  # fmt: skip


def test_twins_in_one_storage_are_no_ties(tmp_path: Path) -> None:
    """As where a program keeps all weights in one flat tensor."""
    flat = torch.arange(3.0).repeat(2)
    torch.save({"a": flat[:3], "tied": flat[:3], "b": flat[3:]}, tmp_path / "a.pth")
    torch.save({"a": flat[:3], "tied": flat[:3]}, tmp_path / "tied.pth")
    with open_checkpoint(tmp_path / "a.pth") as checkpoint:
        assert tied_copies(checkpoint, ["a"]) == {"a": ["a", "tied", "b"]}
    with open_checkpoint(tmp_path / "tied.pth") as checkpoint:
        assert tied_copies(checkpoint, ["a"]) == {}
