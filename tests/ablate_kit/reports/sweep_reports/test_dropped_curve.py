"""Curves over how much is dropped, out of a real sweep."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.metrics.uncertainty.verdict import Outcome, Verdict
from ablate_kit.reports.sweep_reports.dropped_curve import Dropped, curves, figure, sentence, table
from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report
from ablate_kit.sweeps import run_sweep
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.run_sweep import SweepRun
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.small_sweeps import sweep_recipe

HEADS = "decoder.layers.*.self_attn"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepRun, Path]:
    rules = [
        {"kind": "heads", "pattern": HEADS},
        {"kind": "ranked", "points": 4, "null_cuts": 1},
        {"kind": "heads-greedy", "pattern": "decoder.layers.2.self_attn", "steps": 1},
    ]
    recipe = sweep_recipe(SHAPES_TINY, rules, 12, resamples=50)
    folder = tmp_path_factory.mktemp("ranked") / "run"
    done = run_sweep.run(recipe, folder)
    write_sweep_report(done.ledger)
    return done, folder


def test_the_order_is_that_of_the_run_and_every_point_is_a_variant(
    sweep: tuple[SweepRun, Path],
) -> None:
    done, folder = sweep
    results = {one.name: one for one in done.ledger.results()}
    alone = {
        name: one.evaluation.overall["AP"] for name, one in results.items() if one.kind == "heads"
    }
    order = sorted(alone, key=lambda name: -(alone[name] or 0.0))
    made: dict[str, Ablation] = {one.name: one for one in done.removed}
    points = [one for one in made.values() if one.kind == "ranked"]
    assert [one.factors["dropped"] for one in points] == [1, 5, 8, 12]
    assert " ".join(str(one.factors["added"]) for one in points).split() == order
    known = Ledger.existing(folder).ablations()
    for one in points:
        result = results[one.name]
        assert known[result.key].digest == one.digest
        # Columns of an output projection: 12 of them to a head, of 48 rows.
        assert result.factors["elements"] == int(one.factors["dropped"]) * 12 * 48
    assert results["all-ranked-1of12"].evaluation.overall == results[order[0]].evaluation.overall
    assert "all-ranked-1of12-control0" in results
    assert "all-ranked-12of12-control0" not in results  # there is no other cut of that size


def test_the_report_has_the_curve(sweep: tuple[SweepRun, Path]) -> None:
    done, folder = sweep
    report = folder / "report"
    with (report / "dropped.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == [
        "unmodified",
        *(f"all-ranked-{n}of12" for n in (1, 5, 8, 12)),
        "decoder.layers.2.self_attn-greedy-1of4-r0",
    ]
    assert [int(row["elements"]) for row in rows] == [0, 576, 2880, 4608, 6912, 576]
    for row in rows:
        others = [
            one for one in rows
            if float(one["AP"]) >= float(row["AP"]) and int(one["elements"]) >= int(row["elements"])
            and (one["AP"], one["elements"]) != (row["AP"], row["elements"])
        ]  # fmt: skip
        assert int(row["pareto"]) == (not others)
    page = (report / "report.html").read_text()
    assert "More and more dropped" in page
    assert "each point a joint cut that was evaluated itself" in page
    assert (report / "dropped.png").stat().st_size > 5000
    found = curves(done.ledger.results(), [])
    assert [one.on_front for one in found] == [bool(int(row["pareto"])) for row in rows]
    assert sentence(found) == ""  # without verdicts
    assert table(found, "images").title.startswith("each row is a joint cut")
    assert "star" not in table(found, "images").title  # as there are no intervals
    assert table(found, "images").rows[2][1] == "5 of 12"
    nothing = [replace(one, ap=None, on_front=False) for one in found]  # on images without objects
    caption, drawn = figure(nothing)
    assert caption
    assert not drawn.axes[0].lines


def test_marks_are_explained_where_they_stand() -> None:
    def told(p: float, more: int | None) -> str:
        verdict = Verdict("undecided", 0.01, more=more)
        change = Change(0.5, -0.1, -0.2, -0.01, 0.1, p, p, 0.1, verdict)
        return table([Dropped("cut", ("all", "ranking"), 1, 3, 10, "", 0.5, change)], "clips").title

    assert told(0.001, 12).endswith(
        "; *: p < 0.05, adjusted for all variants of the run, as verdicts are; "
        "undecided (+N): about N more clips would decide"
    )
    assert told(0.9, None).endswith("; no star: none has p < 0.05, adjusted for all variants of "
                                    "the run, as verdicts are")  # fmt: skip


def test_what_is_undecided_is_not_said_to_be_not_free() -> None:
    def told(*outcomes: Outcome) -> str:
        rows = [
            Dropped(f"cut{i}", ("all", "ranking"), i, 3, 10 * i, "", 0.5,
                    Change(0.5, 0, -0.1, 0.1, 0.1, 0.9, 0.9, 0.1, Verdict(one, 0.01)))
            for i, one in enumerate(outcomes, start=1)
        ]  # fmt: skip
        return sentence(rows)

    assert told("undecided", "costs", "undecided") == (
        "no joint cut is shown to be free; 2 of 3 are undecided"
    )
    assert told("free", "undecided", "costs") == (
        "the largest joint cut that is free drops 1 of 3 parts, 10 elements: cut1; its parts were "
        "ranked on these very images, so that on others it is likely to cost more"
    )


def test_a_sweep_without_such_cuts_has_no_curve(sweep: tuple[SweepRun, Path]) -> None:
    plain = [one for one in sweep[0].ledger.results() if one.kind in ("unmodified", "heads")]
    assert len(plain) == 13
    assert curves(plain, []) == []
