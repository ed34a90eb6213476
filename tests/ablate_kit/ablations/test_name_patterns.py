"""Patterns choose tensors by name, and a wrong one says what was near."""

import pytest

from ablate_kit.ablations.name_patterns import Pattern, parse_spans, select, spans
from ablate_kit.errors import UserError

NAMES = [
    f"decoder.layers.{i}.{rest}"
    for i in range(6)
    for rest in ("self_attn.out_proj.weight", "self_attn.out_proj.bias", "norm1.weight")
] + ["backbone.stem.conv1.weight", "query_embed"]


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("query_embed", 1),
        ("decoder.layers.0.norm1.weight", 1),
        ("decoder.layers.0", 3),  # a module stands for all tensors under it
        ("decoder.layers.*.norm1.weight", 6),
        ("decoder.layers.*", 18),
        ("decoder.layers.{0-2}.norm1", 3),
        ("decoder.layers.{0,2-3}.norm1", 3),
        ("decoder.layers.{layer}.self_attn", 12),
        ("**.weight", 13),
        ("**", 20),
        ("decoder.**.bias", 6),
        ("*.stem", 1),
        ("decoder.lay*", 18),
    ],
)
def test_patterns(pattern: str, count: int) -> None:
    assert len(select(pattern, NAMES, "x.pth")) == count


def test_a_name_is_not_a_prefix_of_a_longer_word() -> None:
    assert select("a.b", ["a.b.c", "a.bc"], "x") == ["a.b.c"]


def test_dots_and_brackets_are_no_regular_expressions() -> None:
    with pytest.raises(UserError):
        select("query.embed", ["query_embed"], "x")


def test_layers_choose_among_the_placeholder() -> None:
    found = select("decoder.layers.{layer}.norm1", NAMES, "x", layers=[1, 4])
    assert found == ["decoder.layers.1.norm1.weight", "decoder.layers.4.norm1.weight"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("decoder.layer.*", 'did you mean "decoder.layers.*" (18 tensors)'),
        ("decodr.layers.0.self_atn", 'did you mean "decoder.layers.0.self_attn" (2 tensors)'),
        ("a.b,c.d", "; a pattern holds no commas: give several, each by itself"),
        ("query_embd", 'did you mean "query_embed" (1 tensor)'),
        ("all", '"**" matches all'),
        ("zzz", "the names are backbone, decoder, query_embed"),
        ("decoder.layers.9", 'the names under "decoder.layers" are 0, 1, 2, 3, 4, 5'),
    ],
)
def test_a_pattern_that_matches_nothing_says_what_is_near(pattern: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        select(pattern, NAMES, "best.pth")
    assert str(error.value).startswith(f'no tensor matches "{pattern}" in best.pth')
    assert message in str(error.value)


def test_names_that_all_begin_alike_are_told_below_what_they_share() -> None:
    with pytest.raises(UserError, match=r'the names under "model\.net" are decoder, neck'):
        select("zzz", ["model.net.neck.weight", "model.net.decoder.weight"], "x")
    with pytest.raises(UserError, match=r'no tensor matches "\.\./x" in y; the names are a, b'):
        select("../x", ["a.weight", "b.weight"], "y")


UNREADABLE = ("", "a.{x}", "a.{0-", "{layer}.{layer}", "a}")


@pytest.mark.parametrize(
    ("pattern", "layers", "message"),
    [
        *((pattern, None, "cannot read the pattern") for pattern in UNREADABLE),
        ("decoder.layers.*", [0], r"layers were chosen, but .* has no \{layer\}"),
        ("decoder.layers.{layer}", [7], "has no layer 7 in x; it has 0-5"),
    ],
)
def test_patterns_that_select_nothing(pattern: str, layers: list[int] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        select(pattern, NAMES, "x", layers)


def test_no_pattern_takes_for_ever() -> None:
    """Each star that may end anywhere would multiply the ways to be tried by a name's length."""
    name = "a" * 60
    with pytest.raises(UserError, match="more than 5 wildcards"):
        Pattern("*a" * 20 + "b")
    assert Pattern("*" * 60 + "b").match(name) is None
    assert Pattern("*" * 60 + "a").match(name)
    levels = ".".join(["a" * 30] * 12)
    assert Pattern("*." * 11 + "*").match(levels)
    assert Pattern("*." * 11 + "b").match(levels) is None


def test_spans_there_and_back() -> None:
    assert parse_spans("0-2,5", "it") == [0, 1, 2, 5]
    assert spans([5, 1, 0, 2]) == "0-2,5"
    for wrong in ("", "a", "3-1", "1,", "-1", "0-9999999"):
        with pytest.raises(UserError, match="cannot read it"):
            parse_spans(wrong, "it")


@pytest.mark.parametrize("text", ["0-" + "9" * 5000, "9" * 5000, "²", "0-999999999", "5-1"])
def test_numbers_beyond_all_layers_are_no_range(text: str) -> None:
    with pytest.raises(UserError) as error:
        parse_spans(text, "layers")
    assert len(str(error.value)) < 200
    with pytest.raises(UserError):
        parse_spans(",".join(["0-99999"] * 3), "layers")
    assert parse_spans("0-2,5,1-3", "layers") == [0, 1, 2, 5, 3]
    assert len(parse_spans("0-100000", "layers")) == 100_001


@pytest.mark.parametrize(
    ("pattern", "modules"),
    [
        ("a.*.ffn", ["a.0.ffn"]),
        ("**.ffn", ["a.0.ffn", "a.0.ffn.b.ffn"]),
        ("a.**.ffn", ["a.0.ffn", "a.0.ffn.b.ffn"]),
        ("**.{0-2}", ["a.0"]),
        ("**.weight", ["a.0.ffn.b.ffn.weight"]),
        ("**.ff", []),
        ("b", []),
    ],
)
def test_the_modules_of_a_tensor_that_a_pattern_names(pattern: str, modules: list[str]) -> None:
    assert Pattern(pattern).modules("a.0.ffn.b.ffn.weight") == modules


@pytest.mark.parametrize("wrapped", ["module.", "module._orig_mod.", "_orig_mod."])
def test_names_with_what_wrapped_the_model_are_told_without_it(wrapped: str) -> None:
    with pytest.raises(UserError, match=r'without what wraps the model it is "a\.\*"$'):
        select(f"{wrapped}a.*", ["a.weight", "b.weight"], "x")
    with pytest.raises(UserError, match="the names are a, b"):
        select(f"{wrapped}c.*", ["a.weight", "b.weight"], "x")
