"""Text from files, made safe for where it is shown: one function for each surface. A leaf.

Names of classes, tensors and files may hold anything: line separators, terminal codes, halves of
characters, markup. What is shown keeps every printable character and spells the others as Python
does (``\\x1b``, ``\\u2028``); what is stored (JSON) is read back as it was. HTML has its place in
``reports.html``.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from math import isfinite
from typing import Any

LONGEST = 300  # letters of an error
_LONGEST_WORD = 160  # of an error: a path, a name
_LONGEST_LABEL = 60  # of a figure
_LONGEST_NAME = 80  # letters

_OTHERS = re.compile(r"[^ -~]+")  # than plain ASCII
_OTHERS_IN_LINES = re.compile(r"[^ -~\n\t]+")
_WORD = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")
_NUMBER = re.compile(
    r"[-+±*%.,\d\s]*|[-+]?[\d.]+ to [-+]?[\d.]+[*† ]?|[-+]?[\d.]+e[-+]?\d+|[-+]?(?:nan|inf)"
)
_FORMULA = tuple("=+-@＝＋－＠")
_MARKDOWN = re.compile(r"[\\`*<>&|\[\]$~@]|(?<!\w)[_#]|_(?!\w)|:(?=//)|(?<=www)\.")
_LATEX = str.maketrans(
    {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}
    | {"Δ": r"$\Delta$", "±": r"$\pm$", "*": r"$^*$", "~": r"\textasciitilde{}"}
    | {"†": r"$^\dagger$", "→": r"$\rightarrow$"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "[": "{[}", "]": "{]}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)


def first_line(error: BaseException) -> str:
    """Of what an error says; its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def line(text: str) -> str:
    """For the terminal and text files: one line, without what is not printable."""
    return _OTHERS.sub(_spelled, text)


def lines(text: str) -> str:
    """For the terminal: several lines, of which the names were made safe by ``line``."""
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text  # much faster, for a list of 100,000 names
    return _OTHERS_IN_LINES.sub(_spelled, text)


def error(text: str) -> str:
    """For an error: one line that is not long, whatever the names in it."""
    short = _WORD.sub(lambda word: _shortened(word[0], _LONGEST_WORD), line(text))
    return _shortened(short, LONGEST)


def to_json(value: Any, indent: int | None = None) -> str:
    """As JSON that is a text file everywhere and has no line breaks but its own."""
    return json_safe(json.dumps(value, indent=indent, ensure_ascii=False))


def finite(value: float) -> float | None:
    """For JSON, which has neither NaN nor infinity."""
    return float(value) if isfinite(value) else None


def json_safe(text: str) -> str:
    """The same JSON, with what is not printable in its strings as escapes."""
    return _OTHERS_IN_LINES.sub(_escaped, text)


def to_csv(rows: Iterable[Iterable[Any]]) -> str:
    """As CSV in which every row is a line, and no text is a formula of a spreadsheet."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(_cell, row) for row in rows)
    return text.getvalue()


def markdown(text: str) -> str:
    """For a cell or a line of Markdown: shown as it is, without links, mathematics or HTML."""
    safe = line(text)
    return safe if _NUMBER.fullmatch(safe) else _MARKDOWN.sub(r"\\\g<0>", safe)


def latex(text: str) -> str:
    """For a cell of a LaTeX table."""
    return line(text).translate(_LATEX)


def label(text: str) -> str:
    """For a figure: no mathematics, no letter that its font lacks, not too long for a picture."""
    known = _letters()
    short = _shortened(line(text), _LONGEST_LABEL)
    shown = "".join(
        c if ord(c) in known else c.encode("unicode_escape").decode() for c in short
    ).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown  # else no legend would name it


def name(text: str) -> str:
    """For a sentence that lists names: no longer than one is read."""
    return _shortened(line(text), _LONGEST_NAME)


def caption(text: str) -> str:
    """For text that is drawn on a photograph."""
    return _shortened(line(text), _LONGEST_LABEL)


def _spelled(
    found: re.Match[str], spell: Callable[[str], str] = lambda one: repr(one)[1:-1]
) -> str:
    run = found[0]
    if run.isprintable():
        return run
    return "".join(c if c.isprintable() else spell(c) for c in run)


def _escaped(found: re.Match[str]) -> str:
    return _spelled(found, _one_escaped)


def _one_escaped(character: str) -> str:
    # json leaves DEL as it is.
    return r"\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    safe = line(value)
    return f"'{safe}" if safe.startswith(_FORMULA) and not _NUMBER.fullmatch(safe) else safe


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end - 3]}...{text[-end:]}"


@cache
def _letters() -> frozenset[int]:
    """Of the font that figures have."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())
