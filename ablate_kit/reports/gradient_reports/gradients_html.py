"""A gradient diagnosis as one HTML page that needs nothing but itself."""

import base64
from collections.abc import Mapping

from ablate_kit.reports.gradient_reports.gradients_figures import COLORS
from ablate_kit.reports.gradient_reports.gradients_text import DETAILS, GradientReport, details
from ablate_kit.reports.html import render


def page(report: GradientReport, figures: Mapping[str, bytes]) -> str:
    """The page; ``figures`` are PNG files by name, which it carries within."""
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
        figures={name: base64.b64encode(data).decode() for name, data in figures.items()},
        notebook=[(name, int(members.sum())) for name, members in notebook.items()],
        header=DETAILS,
        rows=details(report),
    )
