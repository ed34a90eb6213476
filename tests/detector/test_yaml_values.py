"""YAML gives what JSON has, or says at which line and column it does not."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from detector.yaml_values import DEEPEST, MOST, YamlError, read_yaml, write_yaml

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]))
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=12,
)


@given(VALUES)
def test_json_is_read_as_json(value: Any) -> None:
    assert read_yaml(json.dumps(value)).value == value


@given(VALUES | st.sampled_from(["1e5", "0x1F", "~", "on", "1", ".inf", "2001-01-01", "x: y"]))
def test_what_is_written_is_read(value: Any) -> None:
    text = write_yaml({"key": value})
    assert read_yaml(text).value == {"key": value}
    assert yaml.safe_load(text) == {"key": value}


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_a_mistake(text: str) -> None:
    problem, line, column = "", 1, 1
    try:
        read_yaml(text)
    except YamlError as error:
        problem, line, column = error.problem, error.line, error.column
    assert 1 <= line <= len(text.splitlines()) + 1
    assert column >= 1
    assert "\n" not in problem


@pytest.mark.parametrize("path", sorted(Path("recipes").glob("*/*.yaml")), ids=str)
def test_the_recipes_are_what_they_were_to_pyyaml(path: Path) -> None:
    text = path.read_text()
    assert read_yaml(text).value == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001), ("1.", 1.0), (".5", 0.5), ("-3", -3), ("+7", 7), ("", None), ("~", None),
        (".inf", math.inf), ("-.inf", -math.inf), ("True", True), ('"true"', "true"),
        # Text, whatever YAML 1.1 says of it.
        ("2001-99-99", "2001-99-99"), ("2001-01-01", "2001-01-01"), ("0x_", "0x_"),
        ("0x1F", "0x1F"), ("0b_", "0b_"), ("1_000", "1_000"), ("190:20:30", "190:20:30"),
        ("0123", "0123"), ("00.5", "00.5"), ("yes", "yes"), ("off", "off"), ("=", "="),
        ("'5'", "5"), ("_", "_"), ("+", "+"), (".", "."), ("1e", "1e"), ("2007:test", "2007:test"),
        ("[&a {x: 1}, *a]", [{"x": 1}, {"x": 1}]), ("|\n  a\n  b\n", "a\nb\n"),
    ],
)  # fmt: skip
def test_plain_words_are_what_json_makes_of_them(text: str, value: Any) -> None:
    found = read_yaml(text).value
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("a: 1\nb: !!bool abc", (2, 4), 'the tag "!!bool" is not read'),
        ("a: !!python/object/apply:os.system [id]", (1, 4), "python/object/apply:os.syste"),
        ("a: !!float x", (1, 4), 'the tag "!!float" is not read'),
        ("a: !x y", (1, 4), 'the tag "!x"'),
        ("a: ! y", (1, 4), 'the tag "!"'),
        ("a:\n  b: " + "9" * 5000, (2, 6), "a number of 5000 digits is larger than 64 bits hold"),
        ("0" * 5000, (1, 1), None),
        ("1." + "0" * 5000, (1, 1), "a number of 5002 characters; at most 40"),
        (str(2**63), (1, 1), "a number of 19 digits is larger than 64 bits"),
        ("1e999", (1, 1), "the number 1e999 is too large; infinity is .inf"),
        ("[" * 3000, (1, DEEPEST + 1), "more than 50 levels"),
        ("- " * 3000, (1, 2 * DEEPEST + 1), "more than 50 levels"),
        ("a: [1, 2", (1, 9), "expected ',' or ']', but got '<stream end>'"),
        ("a: b: c", (1, 5), "mapping values are not allowed here"),
        ("a: &x [*x]", (1, 8), '"*x" contains itself'),
        ("a: *x", (1, 4), 'the alias "*x" has no anchor before it'),
        ("a: 1\nb: 2\na: 3", (3, 1), 'the key "a" is there already, in line 1'),
        ("1: 2", (1, 1), "the key 1 is no text; put it in quotes"),
        ("true: 2", (1, 1), "the key true is no text"),
        ("~: 2", (1, 1), "the key null is no text"),
        ("? [a]\n: 2", (1, 3), "a list or map is no key"),
        ("x: &a 1\n*a : 2", (2, 1), "an alias is no key"),
        ("x: &a {b: 1}\ny:\n  <<: *a", (3, 3), "maps are not merged"),
        ("a: 1\n---\nb: 2", (2, 1), "a second document begins"),
        ('a: "\\ud800"', (1, 4), "the character '\\ud800' is not allowed in text"),
        ('a: "\\0"', (1, 4), "the character '\\x00' is not allowed in text"),
        ('a: "\\e[31m"', (1, 4), "the character '\\x1b' is not allowed in text"),
        ("a: \x1b", (1, 4), "the character '\\x1b' is not allowed"),
        ('a: "\\Uffffffff"', None, "an escape names no character"),
        ('a: "\\x', None, "escape sequence"),
        ("a:\n\t- b", (2, 1), "found character '\\t' that cannot start any token"),
        ("%YAML 9.9\n---\na: 1", (1, 1), "incompatible YAML document"),
        ("%TAG ! x\n%TAG ! y\n---\na", (2, 1), "duplicate tag handle '!'"),
    ],
)  # fmt: skip
def test_what_json_has_not_is_told(text: str, where: Any, words: str | None) -> None:
    if words is None:
        assert read_yaml(text).value == text
        return
    with pytest.raises(YamlError) as error:
        read_yaml(text)
    assert words in error.value.problem
    if where:
        assert (error.value.line, error.value.column) == where


def test_aliases_stand_for_a_bounded_number_of_values() -> None:
    text = "a0: &a0 [" + ", ".join(["x"] * 10) + "]\n"
    for i in range(1, 12):
        text += f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]\n"
    with pytest.raises(YamlError, match=f"more than {MOST:,} values"):
        read_yaml(text)
    deep = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 60))
    with pytest.raises(YamlError, match="more than 50 levels"):
        read_yaml(deep)


def test_every_value_knows_its_place() -> None:
    read = read_yaml("a:\n  b: [1, {c: 2}]\n")
    assert read.marks == {
        (): (1, 1), ("a",): (2, 3), ("a", "b"): (2, 6), ("a", "b", 0): (2, 7),
        ("a", "b", 1): (2, 10), ("a", "b", 1, "c"): (2, 14),
    }  # fmt: skip
