"""Names of files that are made from names in a file."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate_kit.errors import UserError
from ablate_kit.file_names import LONGEST, files_in, numbered

ANY = st.text(st.characters(exclude_categories=()), max_size=300)  # with lone surrogates
NASTY = st.text(st.sampled_from("aAé\u0301ſs./\\~:*?\0\n\u2028\ud800 -0123456789"), max_size=12)


def names(folder: str, *given: str, suffix: str = ".pth") -> list[str]:
    return [path.name for path in files_in(Path(folder), list(given), suffix)]


def test_ordinary_names_stay_as_they_are() -> None:
    ordinary = [
        "decoder.layers.0.cross_attn-head0", "decoder-ffn-units-10pct-r0", "backbone.csi",
        "decoder.layers.0-1.self_attn", "a b", "größe→2", "detr_r50_8xb2-150e_coco-436d03e8",
        "query_embed.weight-query3+4", "console", "com10", "x.con", "模型.层", "a~b",
    ]  # fmt: skip
    assert names("out", *ordinary) == [f"{name}.pth" for name in ordinary]
    assert numbered(7, "runs/a/model") == "007_runs_a_model"


@pytest.mark.parametrize(
    "name",
    ["../../x.self_attn", "/etc/x", "..", ".", "", ".hidden", "a/b", "a\\b", "C:x", "-rf", "CON",
     "nul.weight", "Com1", "LPT².x", "a.", "a ", " a", "a\0b", "a\nb", "\x1b[2J", "\ud800",
     "\u202ea", "x" * 256, "é" * 128, "a?b", "a|b", "x~0123456789abcdef"],
)  # fmt: skip
def test_other_names_are_replaced_and_carry_a_digest(name: str) -> None:
    (path,) = files_in(Path("out"), [name])
    assert path.parent == Path("out")
    assert path.name != name
    assert path.name.isprintable()
    assert path.name[0] not in ".- "
    assert path.name.partition(".")[0].casefold() not in ("con", "nul", "com1", "lpt²")
    assert len(path.name.encode()) <= LONGEST
    assert path.name[-17] == "~"


def test_a_name_is_the_same_wherever_it_is_written() -> None:
    assert names("out", "a/b") == ["a_b~c14cddc033f64b9d.pth"]  # of printf a/b | sha256sum
    assert names("out", "a_b", "a/b") == ["a_b.pth", "a_b~c14cddc033f64b9d.pth"]


def test_names_that_a_file_system_takes_for_one_differ() -> None:
    for pair in (("A.x", "a.x"), ("é", "e\u0301"), ("ſ", "s"), ("ß", "SS")):
        made = names("out", *pair)
        assert made == names("out", *reversed(pair))[::-1]
        assert len({name.casefold() for name in made}) == 2
        assert all("~" in name for name in made)
    assert names("out", "Images", suffix=".json") == ["Images.json"]
    (taken,) = files_in(Path(), ["Images"], ".json", taken=["images"])
    assert taken.name.startswith("Images~")
    with pytest.raises(UserError, match='two variants are called "a"; their files would be one'):
        files_in(Path("out"), ["a", "b", "a"])


@given(st.lists(st.one_of(ANY, NASTY), unique=True, max_size=8))
def test_any_names_lie_in_the_folder_and_differ(given: list[str]) -> None:
    paths = files_in(Path("out"), given, ".safetensors")
    for name, path in zip(given, paths, strict=True):
        assert path.parent == Path("out")
        assert set(path.name).isdisjoint('/\\:*?"<>|')
        assert path.name.isprintable()
        assert path.name[0] not in ".- "
        # Room for the receipt beside it, and for its temporary name.
        assert len(f".{path.name}.ablation.json.0123456789ab.tmp".encode()) <= 255
        assert set(numbered(0, name)).isdisjoint("/\\\0")
        assert len(numbered(0, name).encode()) <= LONGEST + 4
    folded = {unicodedata.normalize("NFKC", path.name.casefold()) for path in paths}
    assert len(folded) == len(given)
