"""A gradient diagnosis as files in one folder, which a run under way writes again and again."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate_kit import text as safe
from ablate_kit.gradients.advice.advise import advise
from ablate_kit.gradients.attribution import Attribution
from ablate_kit.gradients.diagnose import TensorReport, diagnose
from ablate_kit.reports.gradient_reports.gradients_figures import COLORS, FIGURES
from ablate_kit.reports.gradient_reports.gradients_text import (
    GradientReport,
    analysis_report,
    detailed_report,
    details,
    summary,
)
from ablate_kit.reports.html import render, themed
from ablate_kit.reports.saved_figure import drawn
from detector.disk.atomic import new_files

if TYPE_CHECKING:
    from ablate_kit.gradients.monitor import GradientMonitor

DETAILED, ANALYSIS = "gradient_flow_detailed_report.txt", "gradient_analysis_report.txt"


def report_of(
    monitor: "GradientMonitor",
    about: Mapping[str, object] | None = None,
    *,
    attribution: Attribution | None = None,
    depth: int = 2,
) -> GradientReport:
    """What a monitor has seen up to now, diagnosed and with advice.

    Args:
        about: of the run, for the reports' heads; ``model`` is their title.
        attribution: which loss term each tensor learns from, where that was measured.
        depth: levels of a name that make a module.
    """
    diagnosis = diagnose(monitor.measured())
    advice = advise(diagnosis, attribution)
    return GradientReport(about or {}, diagnosis, advice, attribution, depth)


def write_gradients(folder: Path, report: GradientReport) -> None:
    """Summary, the two text reports, ``tensors.csv``, ``gradients.json``, figures and
    ``report.html``.

    They are replaced together: a run that is stopped at any moment, or finds the disk full, leaves
    complete ones.
    """
    figures = {name: drawn(make(report)) for name, make in FIGURES.items()}
    texts = {
        "summary.txt": safe.lines(summary(report)) + "\n",
        DETAILED: safe.lines(detailed_report(report)),
        ANALYSIS: safe.lines(analysis_report(report)),
        "tensors.csv": _csv(report),
        "gradients.json": safe.to_json(to_dict(report), 1) + "\n",
        "report.html": _page(report, {name: files["svg"] for name, files in figures.items()}),
    }
    pictures = {
        f"{name}.{kind}": file for name, files in figures.items() for kind, file in files.items()
    }
    new_files(folder, pictures | {name: text.encode() for name, text in texts.items()})


def to_dict(report: GradientReport) -> dict[str, Any]:
    """Every number of the report, as plain JSON values; NaN is None."""
    diagnosis, attribution = report.diagnosis, report.attribution
    measured = diagnosis.measured
    notebook = measured.notebook
    timeline = measured.timeline
    return {
        "about": dict(report.about),
        "steps": diagnosis.steps,
        "skipped": measured.skipped,
        "gradients": "as the optimizer saw them" if measured.clipped else "before clipping",
        "thresholds": asdict(measured.limits),
        "verdicts": diagnosis.counts(),
        "modules": report.modules(),
        "advice": [asdict(one) for one in report.advice],
        "tensors": [asdict(tensor) for tensor in diagnosis.tensors],
        "frozen": list(diagnosis.frozen),
        "thawed": list(measured.thawed),
        "notebook": None
        if notebook is None
        else {name: int(members.sum()) for name, members in notebook.items()},
        "loss_terms": None
        if attribution is None
        else {
            "step": attribution.step,
            "norms": {
                name: dict(zip(attribution.terms, map(float, column), strict=True))
                for name, column in zip(attribution.names, attribution.norms.T, strict=True)
            },
        },
        "timeline": {
            "steps_per_span": timeline.length,
            "gradient_norms": {
                name: list(map(safe.finite, column))
                for name, column in zip(measured.names, timeline.norms().T, strict=True)
            },
        },
    }


def _page(report: GradientReport, figures: Mapping[str, bytes]) -> str:
    """HTML that needs nothing but itself; ``figures`` are SVG files by name, which it carries."""
    diagnosis = report.diagnosis
    notebook = diagnosis.measured.notebook or {}
    counts = [
        (verdict.replace("_", " "), count, COLORS[verdict])
        for verdict, count in diagnosis.counts().items()
    ]
    return render(
        "gradients.html",
        title=str(report.about.get("model", "a model")),
        about=[*report.about.items(), ("steps measured", diagnosis.steps)],
        counts=counts,
        advice=report.advice,
        figures={name: themed(svg.decode()) for name, svg in figures.items()},
        notebook=[(name, int(members.sum())) for name, members in notebook.items()],
        table=details(report),
    )


def _csv(report: GradientReport) -> str:
    names = [field.name for field in fields(TensorReport)]
    tensors = report.diagnosis.tensors
    rows = [[_cell(getattr(tensor, name)) for name in names] for tensor in tensors]
    return safe.to_csv([names, *rows])


def _cell(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, tuple) else value
