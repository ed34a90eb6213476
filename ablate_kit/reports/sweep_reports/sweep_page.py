"""The page of a sweep: one HTML file that needs nothing else, in light and in dark."""

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ablate_kit import plural
from ablate_kit.metrics.headline import METRICS
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.metrics.uncertainty.significance import FEW_IMAGES
from ablate_kit.metrics.uncertainty.verdict import OUTCOMES, untold
from ablate_kit.models.frameworks import own_code
from ablate_kit.reports.answer import adjusted_by, answer, drawn_units, without_labels
from ablate_kit.reports.html import Picture, render
from ablate_kit.reports.study_reports.findings import Sentence
from ablate_kit.reports.table import Table, number
from ablate_kit.sweeps.provenance.about import about
from ablate_kit.sweeps.run_folder.ledger import Ledger

# What is in which files, where those are there.
_FILES = (
    ("all variants", ("table.csv", "table.md", "table.tex"), ""),
    ("sentences", ("sentences.md",), ""),
    ("screened by gradients", ("screen.csv", "screen.md"), ""),
    ("more and more dropped", ("dropped.csv", "dropped.md"), ""),
    ("joint cuts", ("joint.csv", "joint.md"), ""),
    ("Shapley values", ("shapley.csv", "shapley.md"), ""),
    ("repeats and chance", ("repeats.csv", "repeats.md"), ""),
    ("ranking, heads", ("changes.csv",), ": every change, its interval and p at full precision"),
    ("curves", ("results.json",), ": every number of every variant, overall and per class"),
    ("classes", ("classes.csv",), ""),
    ("boxes", ("displacement.csv",), ", from the detections"),
    ("photographs", ("examples.csv",), ""),
)
# What it means that an input is empty.
_UNSET = {
    "framework": "recognized by the checkpoint",
    "configuration": "none but what is in the checkpoint",
    "weights": "those at the top level of the checkpoint",
}

_ELSEWHERE = (
    "; where files lie in other places, with --set model.checkpoint=PLACE, --set data.images=PLACE "
    "and the like: digests at the end of this page tell whether they are the same"
)


def _again(ledger: Ledger) -> str:
    """The command that makes the run again; none where it has no recipe."""
    if not (ledger.folder / "recipe.yaml").exists():
        return ""
    model = str(ledger.inputs.get("framework", ""))
    if not model.startswith(f"{own_code.NAME}:"):
        return "ablate sweep recipe.yaml -o again"
    file, _, name = model.removeprefix(f"{own_code.NAME}:").rpartition(":")
    if file.endswith(".py") and Path(file).is_file():  # it is given from the run's folder
        file = os.path.relpath(file, ledger.folder)
    own = shlex.quote(f"{own_code.NAME}:{file}:{name}")
    return f"ablate sweep recipe.yaml -o again --model {own}"


def no_answer(ap: float | None, margin: float) -> str:
    """Why there is none."""
    if ap is not None and (why := untold(ap, margin)):
        return f"Nothing can be said: the unmodified model {why}"
    return "Nothing can be said: there are no intervals"


@dataclass(frozen=True)
class Said:
    """What is said of the run above its numbers."""

    sentences: Sequence[Sentence]
    model_map: Markup | None = None  # of a study
    # The variants that a study cut its parts by, without those that it compares with them; None of
    # a plain sweep.
    counted: Collection[str] | None = None


def page(
    place: Path,
    ledger: Ledger,
    results: Sequence[Result],
    compared: Comparison,
    said: Said,
    *,
    tables: Mapping[str, Table],
    pictures: Sequence[Picture],
    race: str,
) -> str:
    """All of a report in the folder ``place``, whose other files are there; ``race`` says how one
    went, if the run was one."""
    counted = said.counted
    overall = results[0].evaluation.overall
    controls = sum(one.is_control for one in results[1:])
    unit, drawn = drawn_units(results[0].evaluation)
    cuts = len(results) - 1 - controls if counted is None else len(counted)
    changed = [
        change["AP"]
        for one, change in zip(results[1:], compared.changes, strict=True)
        if counted is None or one.name in counted
    ]
    found = [one.verdict.outcome for one in changed if one.verdict]
    return render(
        "report.html",
        tables=list(tables.items()),
        pictures=pictures,
        files=[one for one in _FILES if (place / one[1][0]).exists()],
        inputs={
            name: _UNSET.get(name, value) if value == "" else value
            for name, value in ledger.inputs.items()
        },
        counts=results[0].evaluation.counts,
        images=plural.counted(results[0].evaluation.counts["images"], "image"),
        variants=cuts,
        besides=len(results) - 1 - controls - cuts,
        what="ablation" if counted is None else "cut",
        controls=controls,
        statistics=compared.statistics,
        adjusted=adjusted_by(compared.statistics.adjust, changed),
        answer=answer(results, compared.changes)
        or no_answer(overall["AP"], compared.statistics.margin),
        outcomes=[(outcome, sum(one == outcome for one in found)) for outcome in OUTCOMES],
        summary=[(one.name, number(overall[one.key])) for one in METRICS],
        significant=sum(one.significant for one in changed),
        few=FEW_IMAGES,
        about=about(ledger.folder),
        again=_again(ledger),
        places=_ELSEWHERE,
        own=without_labels(results),
        unit=unit,
        drawn=drawn,
        notes=ledger.notes(),
        sentences=said.sentences,
        model_map=said.model_map,
        race=race,
    )
