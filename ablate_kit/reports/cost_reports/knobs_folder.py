"""The report of a detector's settings, as files in one folder."""

from collections.abc import Sequence
from pathlib import Path

from ablate_kit import text as safe
from ablate_kit.costs.cost import Cost
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.plural import counted
from ablate_kit.reports.answer import answer
from ablate_kit.reports.comparison_table import comparison
from ablate_kit.reports.cost_reports.knobs_figure import knobs_figure
from ablate_kit.reports.cost_reports.knobs_table import knobs_table, price_name
from ablate_kit.reports.folder import write_report
from ablate_kit.reports.html import render, saved_picture
from ablate_kit.reports.results_file import Origin


def write_knobs_report(
    folder: Path,
    results: Sequence[Result],
    found: Comparison,
    costs: Sequence[Cost],
    origin: Origin,
    notes: Sequence[str],
) -> None:
    """What ``write_report`` writes, and ``knobs.csv``, ``knobs.md``, ``knobs.svg``, ``costs.json``
    and ``report.html``."""

    def also(place: Path) -> None:
        table = knobs_table(results, found, costs)
        (place / "knobs.csv").write_text(table.csv(), encoding="utf-8")
        (place / "knobs.md").write_text(table.markdown(), encoding="utf-8")
        (place / "costs.json").write_text(costs_text(results, costs), encoding="utf-8")
        caption = f"AP against {price_name(costs)}."
        picture = saved_picture(place, "knobs", caption, knobs_figure(results, found, costs))
        said = answer(results, found.changes)
        metrics = comparison(results, found.changes, statistics=found.statistics)
        page = render(
            "tables.html",
            title=f"Settings of {results[0].name} on {counted(results[0].images, 'image')}",
            sentences=[f"{said}."] if said else [],
            tables=[
                (title, one.header, one.rows, one.heading.removeprefix(f"{said}\n"))
                for title, one in (("Settings", table), ("All metrics", metrics))
            ],
            picture=picture.markup,
            caption=picture.caption,
            command=origin.command,
            notes=notes,
        )
        (place / "report.html").write_text(page, encoding="utf-8")

    write_report(folder, results, found, origin, also)


def costs_text(results: Sequence[Result], costs: Sequence[Cost]) -> str:
    """``costs.json``: of each setting, with ratios to the first."""
    document = {
        result.name: cost.to_dict(costs[0]) for result, cost in zip(results, costs, strict=True)
    }
    return safe.to_json(document, 1) + "\n"
