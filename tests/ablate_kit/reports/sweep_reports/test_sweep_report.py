"""What the report of a sweep counts."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Blocks, Edit
from ablate_kit.ablations.random_controls import random_controls
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.reports.sweep_reports import sweep_report
from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report
from ablate_kit.studies.noted import Noted, NotedPart
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.variants.variant import UNMODIFIED, Variant
from tests.ablate_kit.made_up import truth_of

SHAPES = {"w": (8, 8)}
IMAGES = 12


def truth() -> GroundTruth:
    boxes = np.tile([0, 0, 9, 9], (IMAGES, 1))
    return truth_of(range(IMAGES), boxes, np.zeros(IMAGES), images=IMAGES, side=9)


def found(hits: int) -> Detections:
    """The object of so many images."""
    whole = truth()
    return Detections(
        whole.image[:hits], whole.boxes[:hits], np.full(hits, 0.9), whole.labels[:hits]
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Two heads of which one costs everything, each with two controls that cost everything."""
    heads = [
        Ablation(
            f"attn-head{i}", "heads", (Edit("w", Blocks(1, ((i, i + 1),))),),
            factors={"module": "attn", "head": i},
        )
        for i in range(2)
    ]  # fmt: skip
    controls = [random_controls(head, SHAPES, 2) for head in heads]
    made = Ledger(tmp_path / "run", {"checkpoint": "ab", "threads": 1})
    made.begin(truth())
    ablations = [heads[0], *controls[0], heads[1], *controls[1]]
    for one in (UNMODIFIED, *map(Variant.of, ablations)):
        hits = IMAGES if one in (UNMODIFIED,) or one.name == "attn-head1" else 2
        made.finish(one, evaluate(truth(), found(hits), score_threshold=0.5), found(hits))
    made.close(ablations, Statistics(50), {"kind": "shapes"})
    return made


def rows(ledger: Ledger, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((ledger.folder / "report" / name).read_text().splitlines()))


def test_controls_are_neither_counted_nor_tested(ledger: Ledger) -> None:
    table = write_sweep_report(ledger).table
    assert "adjusted (Holm) for 2 variants; 4 random controls, not tested" in table.title
    stars = {row[0]: row[3].endswith("*") for row in table.rows[1:]}
    assert stars == {
        "attn-head0": True, "attn-head0-control0": False, "attn-head0-control1": False,
        "attn-head1": False, "attn-head1-control0": False, "attn-head1-control1": False,
    }  # fmt: skip
    page = (ledger.folder / "report" / "report.html").read_text()
    assert "<h1>2 ablations on 12 images</h1>" in page
    assert "<b>1 of 2</b>change AP significantly" in page
    assert "4 random controls, cuts of the same size to read" in " ".join(page.split())
    assert "adjusted for all variants (Holm)." in " ".join(page.split())  # as the table says
    assert 'class="judged"' in page  # which is all on paper, where nothing scrolls
    assert "@page judged { size: landscape; }" in page
    of_ap = {one["variant"]: one for one in rows(ledger, "changes.csv") if one["metric"] == "AP"}
    for name, row in of_ap.items():
        assert float(row["p"]) <= 1
        assert (row["p_adjusted"] == row["detectable"] == "") == ("control" in name)
        of = name.split("-control")[0] if "control" in name else ""
        assert (row["control_of"], row["module"]) == (of, "" if of else "attn")
    # Of two that are tested, not of six.
    own, adjusted = (float(of_ap["attn-head0"][name]) for name in ("p", "p_adjusted"))
    assert own < adjusted <= 2 * own
    against = [(one["variant"], one["against"]) for one in rows(ledger, "repeats.csv")]
    assert set(against) == {(f"attn-head{i}", "random controls") for i in range(2)}


def test_the_page_names_the_files_that_are_there(ledger: Ledger) -> None:
    write_sweep_report(ledger)
    report = ledger.folder / "report"
    page = (report / "report.html").read_text()
    told = set(re.findall(r"<code>(\w+\.\w+)</code>", page[page.index("Where the numbers") :]))
    assert told == {
        one.name for one in report.iterdir() if one.suffix in (".csv", ".md", ".tex")
    } | {"results.json"}


def test_the_page_of_a_study_counts_the_cuts_that_its_sentences_count(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Result] = []
    monkeypatch.setattr(
        sweep_report, "figures", lambda results, *_, **__: drawn.extend(results) or []
    )
    attention = {"part": "attn", "depth": 0, "kind": "attention module", "elements": 8}
    Noted(
        budget="10m", images=IMAGES, total=IMAGES, margin=0.01,
        parts=[NotedPart(**attention, how="mean", variant="attn-head1")],
        zeros={"attn-head0": "attn-head1"},
        rounds=[[one.name for one in ledger.results()[1:]]],
    ).keep(ledger.folder)  # fmt: skip
    table = write_sweep_report(ledger).table
    assert "for 2 variants" in table.title
    page = " ".join((ledger.folder / "report" / "report.html").read_text().split())
    assert "<title>1 cut</title>" in page
    assert "<h1>1 cut on 12 images</h1>" in page
    assert "In short: of 1 cut, none is known to cost" in page
    assert "<b>0 of 1</b>change AP significantly" in page
    assert "<b>0</b>costs" in page
    assert "1 row more, parts cut in a second way or several at once, is tested alike" in page
    # Pictures find what a random control belongs to, by the name that the study gives it.
    assert {one.factors.get("control_of") for one in drawn} == {
        None, "attn (mean)", "attn (set to zero)"
    }  # fmt: skip


def test_results_have_the_factors_of_their_ablations(ledger: Ledger) -> None:
    assert [one.factors for one in ledger.results()][:3] == [
        {}, {"module": "attn", "head": 0}, {"control_of": "attn-head0", "draw": 0},
    ]  # fmt: skip
