"""A table as text: for the terminal, as Markdown, as CSV."""

import csv
import io
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Cells as text. Columns named in ``left`` are aligned to the left, the others to the right."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: tuple[str, ...] = ()

    def text(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [self._line(self.header, widths), "  ".join("-" * width for width in widths)]
        lines.extend(self._line(row, widths) for row in self.rows)
        return "\n".join([self.title, *lines] if self.title else lines)

    def markdown(self) -> str:
        rule = ["---" if name in self.left else "---:" for name in self.header]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.header, rule, *self.rows)]
        return "\n".join([f"**{self.title}**", "", *lines]) + "\n"

    def latex(self) -> str:
        """A booktabs tabular."""
        columns = "".join("l" if name in self.left else "r" for name in self.header)
        lines = [rf"% {line}" for line in self.title.splitlines()]
        lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_row(self.header)]
        lines += [r"\midrule", *map(_latex_row, self.rows), r"\bottomrule", r"\end{tabular}"]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        return text.getvalue()

    def _line(self, cells: tuple[str, ...], widths: list[int]) -> str:
        placed = (
            cell.ljust(width) if name in self.left else cell.rjust(width)
            for name, cell, width in zip(self.header, cells, widths, strict=True)
        )
        return "  ".join(placed).rstrip()


_LATEX = str.maketrans(
    {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}
    | {"Δ": r"$\Delta$", "±": r"$\pm$", "*": r"$^*$", "~": r"\textasciitilde{}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}"}
)


def _latex_row(cells: tuple[str, ...]) -> str:
    return " & ".join(cell.strip().translate(_LATEX) for cell in cells) + r" \\"
