"""What a sweep's report says beyond the change of each variant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.reports.answer import drawn_units
from ablate_kit.reports.records import Records, write_records
from ablate_kit.reports.sweep_reports import (
    dropped_curve,
    joint_cuts,
    repeats_table,
    screening_table,
    shapley_table,
)
from ablate_kit.reports.table import Table
from ablate_kit.sweeps.run_folder.screened import Screened


@dataclass(frozen=True)
class Section:
    """An analysis over variants: its numbers, its table and maybe a picture with its caption."""

    name: str  # of its files
    title: str
    records: Records
    table: Table
    figure: tuple[str, Figure] | None = None

    def write(self, place: Path) -> None:
        """The numbers and the table; the picture is the report's."""
        write_records(place / self.name, self.records)
        (place / f"{self.name}.md").write_text(self.table.markdown(), encoding="utf-8")


def sections(
    results: Sequence[Result],
    compared: Comparison,
    screening: Screened | None,
    statistics: Statistics,
    called: Mapping[str, str],
) -> list[Section]:
    """Those for which the run has variants, as they come on the page; ``called``: what a study
    calls them there."""
    found = []
    unit, _ = drawn_units(results[0].evaluation)
    if screening:
        records = screening_table.records(screening, results)
        table = screening_table.table(screening, results, statistics.margin)
        found.append(Section("screen", "Screened by gradients", records, table))
    if dropped := dropped_curve.curves(results, compared.changes):
        records, table = dropped_curve.records(dropped), dropped_curve.table(dropped, unit)
        drawn = dropped_curve.figure(dropped)
        found.append(Section("dropped", "More and more dropped", records, table, drawn))
    if compared.baseline is None:
        return found
    of_samples = results, compared.baseline, compared.samples
    if joint := joint_cuts.joint_cuts(*of_samples, statistics.adjust):
        shown = [joint_cuts.renamed(one, called) for one in joint]
        records, table = joint_cuts.records(joint), joint_cuts.table(shown)
        picture = joint_cuts.figure(shown)
        found.append(Section("joint", "Joint cuts and their members", records, table, picture))
    if values := shapley_table.shapley_values(*of_samples):
        records, table = shapley_table.records(values), shapley_table.table(values, unit)
        drawn = shapley_table.figure(values)
        found.append(Section("shapley", "Shapley values", records, table, drawn))
    if repeated := repeats_table.repeats(*of_samples):
        records, table = repeats_table.records(repeated), repeats_table.table(repeated, unit)
        found.append(Section("repeats", "Repeats and chance", records, table))
    return found
