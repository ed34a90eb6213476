"""A table as text: for the terminal, as Markdown, as CSV."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ablate_kit import text as safe

_LATEX_USE = (
    r"needs booktabs; for the width of a page: \footnotesize, \setlength{\tabcolsep}{4pt}, or "
    r"\resizebox{\textwidth}{!}{...} of graphicx"
)
INTERVAL = "95 % interval"  # a column of ``ends``
APART = "†"  # beside a number that changes against another, or apart from others
UNDEFINED = "-"  # in place of a number
LEGEND = f"{UNDEFINED}: not defined"
_NEGATIVE = re.compile(r"(?:^|(?<=[0-9] to ))-(?=[0-9.])")
_WIDEST = 200  # letters that a column is filled up to


@dataclass(frozen=True)
class Table:
    """Cells as text. Columns named in ``left`` are aligned to the left, the others to the right.

    Cells may hold anything; a title has several lines, and names in it are safe already.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """The title, and what stands for a number that is not defined, where a cell has that."""
        words = [name in self.left for name in self.header]
        undefined = any(
            UNDEFINED in cell and not word and UNDEFINED in cell.strip(" *†").split()
            for row in self.rows
            for cell, word in zip(row, words, strict=True)
        )
        return "\n".join(filter(None, (self.title, LEGEND if undefined else "")))

    def text(self) -> str:
        cells = [_safe(row) for row in (self.header, *self.rows)]
        widths = [min(_WIDEST, max(map(len, column))) for column in zip(*cells, strict=True)]
        places = [
            f"{{:{'<' if name in self.left else '>'}{width}}}"
            for name, width in zip(self.header, widths, strict=True)
        ]
        line = "  ".join(places).format  # once for all rows, of which there may be 100,000
        lines = [line(*row).rstrip() for row in cells]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.heading, *lines] if self.heading else lines)

    def markdown(self) -> str:
        rule = ["---" if name in self.left else "---:" for name in self.header]
        header, *rows = (tuple(map(safe.markdown, row)) for row in (self.header, *self.rows))
        lines = [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
        title = "\n".join(map(safe.markdown, self.heading.split("\n")))
        return "\n".join([f"**{title}**", "", *lines]) + "\n"

    def latex(self, caption: str | None = None) -> str:
        """A booktabs tabular, in comments above it what may be its caption, by default the title,
        and the title where that is not the caption; numbers have a minus, not a hyphen."""
        columns = "".join("l" if name in self.left else "r" for name in self.header)
        heading = self.heading
        title = list(filter(None, safe.lines(heading).split("\n")))
        if caption and heading != self.title:
            caption = f"{caption} {LEGEND}."
        if caption is None:
            told = [*title[:1], *(f"{one[0].upper()}{one[1:]}" for one in title[1:])]
            caption, title = " ".join(f"{one}." for one in told), []
        told = [rf"\caption{{{safe.latex(caption)}}}"] if caption else []
        told += [_LATEX_USE, *title]
        lines = [f"% {line}" for line in told]
        lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_row(self.header)]
        lines += [r"\midrule", *map(_latex_row, self.rows), r"\bottomrule", r"\end{tabular}"]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        return safe.to_csv([self.header, *self.rows])


def _safe(row: tuple[str, ...]) -> tuple[str, ...]:
    return row if "".join(row).isprintable() else tuple(map(safe.line, row))


def _latex_row(cells: tuple[str, ...]) -> str:
    return " & ".join(_NEGATIVE.sub("$-$", safe.latex(cell.strip())) for cell in cells) + r" \\"


def shape_text(shape: tuple[int, ...]) -> str:
    """``3x4`` for (3, 4)."""
    return "x".join(map(str, shape)) or "scalar"


def number(value: float | None, form: str = "z.4f") -> str:
    """``UNDEFINED`` for none; what rounds to zero has no minus."""
    return UNDEFINED if value is None else format(value, form)


def shows(rows: Iterable[Sequence[str]], mark: str) -> bool:
    """Whether a number in one of them has the mark: a legend explains what is there."""
    return any(
        cell.endswith(mark) and not cell[: -len(mark)].strip("+-.0123456789 to")
        for row in rows
        for cell in row
    )


def stars(rows: Iterable[Sequence[str]]) -> str:
    """What a legend says of stars, without for how many they are adjusted."""
    return "*: p < 0.05" if shows(rows, "*") else "no star: none has p < 0.05"


def ends(low: float | None, high: float | None, mark: str = " ") -> str:
    """Of an interval, and a mark, such as a star; of none the mark alone.

    Not half of its length: where it reaches farther to one side, ± would tell another one.
    """
    if low is None or high is None:
        return mark.strip()
    return f"{low:+z.4f} to {high:+z.4f}{mark}"
