"""YAML, of which only what JSON has is read: text, numbers, true, false, null, lists and maps.

PyYAML's own types turn text into dates, sums of sixties and numbers in five notations, and raise
whatever the parts of them raise. Here a plain word is what JSON would make of it, and all else is
text; there are no tags. How much is built is bounded while it is read: a page of aliases can stand
for more than any memory holds.
"""

import copy
import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

LARGEST = 2**18  # bytes; a recipe is a page or two
DEEPEST = 50
MOST = 100_000  # values, those that aliases stand for included
DIGITS = 40  # characters of a number

Path = tuple[str | int, ...]

# A number that begins with 0, as 0123, is eight, ten or text, whom one asks: here it is text.
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
    ".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan,
}  # fmt: skip


class YamlError(Exception):
    """What is wrong, and where: lines and columns count from 1."""

    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(problem)
        self.problem, self.line, self.column = problem, line, column


@dataclass(frozen=True)
class Yaml:
    """A value, and at which line and column each of its parts stands."""

    value: Any
    marks: dict[Path, tuple[int, int]]


def read_yaml(text: str, *, number_keys: bool = False) -> Yaml:
    """The value of a YAML text, None of an empty one; raises ``YamlError``.

    ``number_keys``: whole numbers are keys as well, by their digits.
    """
    builder = _Builder(number_keys)
    loader = yaml.SafeLoader("")
    try:
        # Parsed as it is built, so that a bound stops it.
        loader = yaml.SafeLoader(text)
        while loader.check_event():
            builder.take(loader.get_event())
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = len(before) - before.rfind("\n")
        found = text[error.position : error.position + 1]
        problem = f"the character {found!a} is not allowed"
        raise YamlError(problem, before.count("\n") + 1, column) from None
    except yaml.MarkedYAMLError as error:
        problem = " ".join((error.problem or error.context or "cannot be read").split())
        raise _mistake(problem, error.problem_mark or error.context_mark) from None
    # An escape such as "\Uffffffff", which is handed to chr().
    except (ValueError, OverflowError):
        raise _mistake("an escape names no character", loader.get_mark()) from None
    finally:
        loader.dispose()
    return Yaml(builder.root, builder.marks)


def write_yaml(values: Any) -> str:
    """A text that ``read_yaml`` reads as these values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Quotes what PyYAML takes for text and ``read_yaml`` does not, such as 1e5."""


def _represented(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = text in _WORDS or _INTEGER.fullmatch(text) or _FLOAT.fullmatch(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if plain else None)


_Dumper.add_representer(str, _represented)


def _mistake(problem: str, mark: Any) -> YamlError:
    return YamlError(problem, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1)


@dataclass
class _Open:
    """A list or map that has begun."""

    value: list[Any] | dict[str, Any]
    path: Path
    anchor: str | None
    begun: int  # how many values were there before it
    key: str | None = None  # that waits for its value
    deepest: int = 0  # levels within


@dataclass
class _Anchor:
    value: Any
    values: int
    deepest: int


@dataclass
class _Builder:
    """From events to a value; PyYAML's own composer calls itself for every level."""

    number_keys: bool = False
    root: Any = None
    marks: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _open: list[_Open] = field(default_factory=list)
    _anchors: dict[str, _Anchor | None] = field(default_factory=dict)
    _values: int = 0
    _documents: int = 0

    def take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _mistake("a second document begins; expected one", mark)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(str(event.anchor), mark)
        elif isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event)
            self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            self._refuse_tag(event)
            if len(self._open) >= DEEPEST:
                raise _mistake(f"more than {DEEPEST} levels of lists and maps", mark)
            self._refuse_key("a list or map", mark)
            path = self._path()
            self._note(path, mark)
            if event.anchor:
                self._anchors[event.anchor] = None  # until it ends
            begun = _Open(
                [] if isinstance(event, yaml.SequenceStartEvent) else {},
                path, event.anchor, self._values,
            )  # fmt: skip
            self._open.append(begun)
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            ended = self._open.pop()
            if ended.anchor:
                held = self._values - ended.begun
                self._anchors[ended.anchor] = _Anchor(ended.value, held, ended.deepest + 1)
            self._put(ended.value, ended.deepest + 1)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        mark, text = event.start_mark, event.value
        value = _plain(text, mark) if event.style is None else _text(text, mark)
        if self._is_key():
            self._key(value, mark)
            return
        self._note(self._path(), mark)
        if event.anchor:
            self._anchors[event.anchor] = _Anchor(value, 1, 0)
        self._put(value, 0)

    def _key(self, value: Any, mark: Any) -> None:
        holder = self._open[-1]
        if self.number_keys and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise _mistake(f"the key {_shown(value)} is no text; put it in quotes", mark)
        if value == "<<":
            raise _mistake("maps are not merged (<<); write out the keys", mark)
        if value in holder.value:
            line, _ = self.marks[(*holder.path, value)]
            raise _mistake(f'the key "{value[:40]}" is there already, in line {line}', mark)
        holder.key = value
        self._note((*holder.path, value), mark)

    def _alias(self, name: str, mark: Any) -> None:
        self._refuse_key("an alias", mark)
        if name not in self._anchors:
            raise _mistake(f'the alias "*{name[:40]}" has no anchor before it', mark)
        anchor = self._anchors[name]
        if anchor is None:
            raise _mistake(f'"*{name[:40]}" contains itself', mark)
        if len(self._open) + anchor.deepest > DEEPEST:
            raise _mistake(f"more than {DEEPEST} levels of lists and maps", mark)
        self._note(self._path(), mark, anchor.values)
        # A copy: what --set changes in one place stays as it is in the other.
        self._put(copy.deepcopy(anchor.value), anchor.deepest)

    def _put(self, value: Any, levels: int) -> None:
        if not self._open:
            self.root = value
            return
        holder = self._open[-1]
        holder.deepest = max(holder.deepest, levels)
        if isinstance(holder.value, list):
            holder.value.append(value)
        elif holder.key is not None:
            holder.value[holder.key] = value
            holder.key = None

    def _path(self) -> Path:
        """Where the value that comes next will be."""
        if not self._open:
            return ()
        holder = self._open[-1]
        if isinstance(holder.value, list):
            return (*holder.path, len(holder.value))
        return (*holder.path, holder.key or "")

    def _is_key(self) -> bool:
        last = self._open[-1] if self._open else None
        return last is not None and isinstance(last.value, dict) and last.key is None

    def _refuse_key(self, what: str, mark: Any) -> None:
        if self._is_key():
            raise _mistake(f"{what} is no key; expected text", mark)

    @staticmethod
    def _refuse_tag(event: Any) -> None:
        if event.tag is not None:
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            raise _mistake(
                f'the tag "{tag[:40]}" is not read: there are text, numbers, true, false, null, '
                "lists and maps",
                event.start_mark,
            )

    def _note(self, path: Path, mark: Any, values: int = 1) -> None:
        self._values += values
        if self._values > MOST:
            raise _mistake(f"more than {MOST:,} values", mark)
        self.marks[path] = (mark.line + 1, mark.column + 1)


def _plain(text: str, mark: Any) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        digits = len(text.lstrip("+-0"))
        if digits > 19 or not -(2**63) <= (value := int(text)) < 2**63:
            raise _mistake(f"a number of {digits} digits is larger than 64 bits hold", mark)
        return value
    if _FLOAT.fullmatch(text):
        if len(text) > DIGITS:
            raise _mistake(f"a number of {len(text)} characters; at most {DIGITS} are read", mark)
        number = float(text)
        if math.isinf(number):
            raise _mistake(f"the number {text} is too large; infinity is .inf", mark)
        return number
    return _text(text, mark)


def _text(text: str, mark: Any) -> str:
    """Text that can be printed, stored and be a path."""
    if any("\ud800" <= one <= "\udfff" for one in text):
        # As in JSON, two escapes may be the halves of one character.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    for one in text:
        if (one < " " and one not in "\n\t") or "\ud800" <= one <= "\udfff":
            raise _mistake(f"the character {one!a} is not allowed in text", mark)
    return text


def _shown(value: Any) -> str:
    words = "null" if value is None else str(value)
    return words.lower() if isinstance(value, bool) else words[:40]
