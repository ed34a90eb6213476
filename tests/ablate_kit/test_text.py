"""Text from files, made safe for where it is shown."""

import csv
import io
import json
import re
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ablate_kit import text as safe
from ablate_kit.cli.output import print_json
from ablate_kit.progress_bars import progress
from ablate_kit.reports.box_drawings import draw
from ablate_kit.reports.table import Table

ANY = st.text(st.characters(exclude_categories=()), max_size=400)


@given(ANY)
def test_every_surface_takes_every_text(name: str) -> None:
    for made in (safe.line(name), safe.error(name), safe.markdown(name), safe.latex(name),
                 safe.caption(name), safe.label(name)):  # fmt: skip
        assert made.isprintable()
        made.encode()
    assert len(safe.error(name)) <= safe.LONGEST
    assert safe.line(safe.line(name)) == safe.line(name)
    assert all(part.isprintable() for part in re.split(r"[\n\t]", safe.lines(name)))
    stored = safe.to_json({"name": name, name: [1.5, None]}, 1)
    assert json.loads(stored) == {"name": name, name: [1.5, None]}
    assert stored.splitlines() == stored.split("\n")
    stored.encode()
    row = safe.to_csv([[name, 0.1, None]])
    assert row.isprintable() or row[:-1].isprintable()
    assert len(list(csv.reader(io.StringIO(row)))) == 1


def test_ordinary_text_stays_as_it_is() -> None:
    for name in (
        "decoder.layers.0-1.self_attn-head0",
        "größe 模型",
        "-0.0282",
        "+0.0523",
        "0.0098*",
    ):
        assert safe.line(name) == safe.error(name) == safe.markdown(name) == safe.caption(name)
        assert safe.line(name) == name
        assert safe.to_csv([[name]]) == f"{name}\n"
        assert safe.to_json(name) == f'"{name}"'
    assert safe.label("decoder.layers.0.self_attn") == "decoder.layers.0.self_attn"


@pytest.mark.parametrize(
    ("given", "shown"),
    [("=1+cmd|' /C calc'!A0", "'=1+cmd|' /C calc'!A0"), ("@SUM(A1)", "'@SUM(A1)"),
     ("-2+3+cmd", "'-2+3+cmd"), ("+cmd", "'+cmd"), ("-0.1 ± 0.2*", "-0.1 ± 0.2*"), ("-", "-"),
     ("-0.1 to +0.2*", "-0.1 to +0.2*"), ("-1 to -A1", "'-1 to -A1"),
     ("a\nb", r"a\nb"), ("a\u2028b", r"a\u2028b"), ("\t=1", r"\t=1"), ("-inf", "-inf")],
)  # fmt: skip
def test_no_cell_is_a_formula_or_two_lines(given: str, shown: str) -> None:
    (row,) = csv.reader(io.StringIO(safe.to_csv([[given, -1.5]])))
    assert row == [shown, "-1.5"]


MARKUP = ["<img src=x onerror=alert(1)>", "[a](javascript:alert(1))", "**a**", "_a_", "`a`", "a|b",
          "https://example.org", "&lt;", "![a](b)", "$x_{1$", "~~a~~", "\\", "# a",
          "www.example.org"]  # fmt: skip


@pytest.mark.parametrize("name", MARKUP)
def test_markdown_shows_what_the_name_is(name: str) -> None:
    page = (
        MarkdownIt("commonmark")
        .enable("table")
        .render(
            Table(f"of {safe.line(name)}", ("class", "n"), ((name, "1"),), ("class",)).markdown()
        )
    )
    from html import unescape

    text = re.sub(r"</?(?:p|strong|table|thead|tbody|tr|t[hd][^>]*)>", "", page)
    assert "<" not in text
    assert unescape(text).split() == ["of", *name.split(), "class", "n", *name.split(), "1"]


def test_latex_has_no_commands_of_the_names() -> None:
    table = Table("a\nb", ("class",), ((r"\input{/etc/passwd}",), ("[2pt]$x_{1$%",)), ("class",))
    assert table.latex().splitlines() == [
        r"% \caption{a. B.}",
        r"% needs booktabs; for the width of a page: \footnotesize, \setlength{\tabcolsep}{4pt}, "
        r"or \resizebox{\textwidth}{!}{...} of graphicx",
        r"\begin{tabular}{l}", r"\toprule", r"class \\", r"\midrule",
        r"\textbackslash{}input\{/etc/passwd\} \\", r"{[}2pt{]}\$x\_\{1\$\% \\",
        r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip


def test_a_caption_of_its_own_leaves_the_title_a_comment() -> None:
    told = Table("a_1\nb", ("class",), (("x†",),)).latex("c → d").splitlines()
    assert told[0] == r"% \caption{c $\rightarrow$ d}"
    assert told[2:4] == ["% a_1", "% b"]
    assert r"x$^\dagger$ \\" in told


def test_negative_numbers_have_a_minus_in_latex() -> None:
    table = Table("", ("a", "b"), (("-0.0594", "-x"), ("+0.1", "0.2-0.3")))
    assert table.latex().splitlines()[5:7] == [r"$-$0.0594 & -x \\", r"+0.1 & 0.2-0.3 \\"]


def test_figures_draw_any_name_as_it_is() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    names = ["$x_{1$", "$a$", "_hidden", "模型", "\ud800", "\x1b[2J", "a" * 1000, r"\frac{1}"]
    for i, name in enumerate(names):
        panel.plot([i], [i], label=safe.label(name))
    panel.legend()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), format="png")
        figure.savefig(io.BytesIO(), format="svg")
    shown = [text._preprocess_math(text.get_text()) for text in panel.get_legend().get_texts()]
    assert [mathematics for _, mathematics in shown] == [False] * len(names)
    assert [text for text, _ in shown][:6] == [
        "$x_{1$", "$a$", " _hidden", r"\u6a21\u578b", r"\ud800", r"\x1b[2J",
    ]  # fmt: skip
    assert len(shown[6][0]) == 60


def test_photographs_carry_any_name() -> None:
    pixels, boxes = np.zeros((200, 400, 3), np.uint8), np.full((4, 4), 20.0)
    names = ["\ud800 0.50", "a\nb 0.50", "\x1b[2J", "x" * 10_000]
    picture = draw(pixels, boxes, names, [0, 1, 2, 3], title="\u2028" + "y" * 10_000)
    same = draw(
        pixels, boxes, [*map(safe.caption, names)], [0, 1, 2, 3], title="\u2028" + "y" * 10_000
    )
    assert picture.width == 400
    assert picture.tobytes() == same.tobytes()


def test_a_name_is_no_markup_of_the_progress_bars(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with progress() as bars:
        bars.add_task("[/b]\x1b[2J[red]\n", total=1)
        bars.refresh()
    assert r"[/b]\x1b[2J[red]\n" in capsys.readouterr().err


def test_json_is_json_on_a_terminal_that_knows_no_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    made = io.BytesIO()
    ascii_only = io.TextIOWrapper(made, encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    print_json({"größe": "模\u2028\ud800"})
    assert json.loads(made.getvalue()) == {"größe": "模\u2028\ud800"}


def test_a_table_is_not_as_wide_as_its_longest_name() -> None:
    rows = (("a" * 10_000, "1"), *(("b", "2"),) * 100)
    assert len(Table("", ("name", "n"), rows, ("name",)).text()) < 60_000
