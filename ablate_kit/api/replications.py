"""The cuts of a run in other checkpoints, from Python."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from ablate_kit.api.keywords import by_keyword, in_python
from ablate_kit.api.model import Model
from ablate_kit.api.sweep_result import SweepResult
from ablate_kit.errors import UserError
from ablate_kit.metrics.headline import KEYS, Key
from ablate_kit.metrics.uncertainty.multiplicity import Adjust
from ablate_kit.metrics.uncertainty.replicates import Replicated
from ablate_kit.plural import counted
from ablate_kit.sweeps.backends.placement import Placement
from ablate_kit.sweeps.replications.replicas import Replicas, told
from ablate_kit.sweeps.run import Progress
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.run_sweep import run_sweep
from ablate_kit.sweeps.shown_progress import shown

if TYPE_CHECKING:
    import pandas as pd

_COMMAND = "ablate_kit.replicate in Python"

Run = SweepResult | str | PathLike[str]


@dataclass(frozen=True)
class ReplicationResult:
    """The same cuts in several checkpoints.

    Attributes:
        checkpoints: their names, the first run's before.
        cuts: names of what all of them were cut by.
        rows: by metric, what the changes of each cut come to.
        sentences: what holds in all checkpoints, and where they differ.
        notes: warnings, in words.
        folder: of the other runs and of the report.
    """

    checkpoints: list[str]
    cuts: list[str]
    rows: dict[Key, list[Replicated]]
    sentences: list[str]
    notes: list[str]
    folder: Path

    def __repr__(self) -> str:
        cuts, models = counted(len(self.cuts), "cut"), counted(len(self.checkpoints), "checkpoint")
        return f"<ReplicationResult: {cuts} in {models}; .sentences say what holds in all>"

    def table(self, metric: Key = "AP") -> "pd.DataFrame":
        """A row for each cut, by name: the change of a metric in each checkpoint (a column of its
        name); ``mean``, with the ends ``low`` and ``high`` of its 95 % interval over checkpoints
        and images (NaN of two checkpoints); ``deviation`` between checkpoints; ``p_differ``, that
        images alone make them differ so much, adjusted; and ``in_all``, the verdict that holds in
        all checkpoints. Shares of 1.

        Raises:
            UserError: no such metric.
        """
        import pandas as pd

        if metric not in self.rows:
            raise UserError(f'no metric "{metric}"; there are {", ".join(KEYS)}')
        numbers = ("mean", "low", "high", "deviation", "p_differ")
        columns = [*self.checkpoints, *numbers]
        values = [
            [*(one.change for one in row.changes), *(getattr(row, name) for name in numbers)]
            for row in self.rows[metric]
        ]
        frame = pd.DataFrame(values, index=self.cuts, columns=columns, dtype="float64")
        frame["in_all"] = [row.outcome for row in self.rows[metric]]
        return frame

    def report(self) -> Path:
        """The page of the report, which is written already."""
        return self.folder / "report" / "report.html"


@by_keyword()
def replicate(
    run: Run,
    others: Iterable[Model | Run],
    *,
    output: str | PathLike[str] | None = None,
    margin: float | None = None,
    adjust: Adjust | None = None,
    progress: Progress | bool = False,
) -> ReplicationResult:
    """Which conclusions of a run hold in other checkpoints, such as other seeds of the training?

    Args:
        run: a study or sweep that has ended, or its folder.
        others: models, which are cut as the first was, on the same images; and runs of the same
            cuts, or their folders.
        output: folder of the other runs, which are continued where they were stopped, and of the
            report; by default that of ``run`` with ``-replicated``.
        margin: a change of AP below it counts as free; by default as of ``run``.
        adjust: as of ``sweep``; by default as of ``run``.
        progress: True: a bar of each run. A ``Progress`` is told how many passes are ahead, and of
            each that is done.

    Raises:
        UserError: a run without a folder, that is not finished, or of other images; or two of the
            same weights.

    Examples:
        >>> import ablate_kit as ak
        >>> first = ak.study(ak.load("seed1.pth"), data, output="runs/study")  # doctest: +SKIP
        >>> seeds = [ak.load("seed2.pth"), ak.load("seed3.pth")]  # doctest: +SKIP
        >>> found = ak.replicate(first, seeds)  # doctest: +SKIP
        >>> found.table()[["mean", "low", "high", "in_all"]]  # doctest: +SKIP
    """
    from ablate_kit.reports.replication_reports.replication_folder import write_replication
    from ablate_kit.reports.replication_reports.replication_words import replication_sentences
    from ablate_kit.reports.study_reports.titles import titles_in

    given = list(others)
    if not given:
        raise UserError("replicate: nothing to compare the run with; give models or runs")
    models = {i: one for i, one in enumerate(given) if isinstance(one, Model)}
    places = [one.path if isinstance(one, Model) else _folder(one) for one in given]
    replicas = Replicas.of(
        _folder(run),
        places,
        [i not in models for i in range(len(given))],
        None if output is None else Path(output),
    )
    asked = Ledger.existing(replicas.run).manifest().statistics
    asked = replace(asked, margin=asked.margin if margin is None else margin)
    asked = replace(asked, adjust=adjust or asked.adjust)
    notes: list[str] = []

    def sweep(number: int, folder: Path) -> None:
        notes.extend(_swept(replicas, number, models[number], folder, progress))

    sections = {number: models[number].section() for number in replicas.swept}
    found = replicas.compared(sections, sweep, asked)
    found = replace(found, called=titles_in(replicas.run))
    notes += told(found)
    replicas.claim()
    write_replication(replicas.folder / "report", found, _COMMAND, told(found))
    return ReplicationResult(
        list(found.names),
        [one.name for one in found.cuts],
        {key: list(rows) for key, rows in found.rows.items()},
        [in_python(one) for one in replication_sentences(found)],
        [in_python(one) for one in notes],
        replicas.folder,
    )


def _folder(run: Run) -> Path:
    if isinstance(run, SweepResult):
        if run.folder is None:
            raise UserError(
                "a sweep without output keeps nothing that could be replicated: give output=FOLDER"
            )
        return run.folder
    path = Path(fspath(run))
    if path.exists() and not Ledger.begun_in(path):
        raise UserError(f"{path} is no run; give a checkpoint as a model: ak.load({fspath(run)!r})")
    return path


def _swept(
    replicas: Replicas, number: int, model: Model, folder: Path, progress: Progress | bool
) -> list[str]:
    """Makes the run of a model; returns what is to be noted."""
    from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report

    with (
        Ledger.locked(folder),
        model.section_beside(folder) as section,
        replicas.opened(number, section, Placement((model.device,)), model.adapter) as opened,
    ):
        ledger = replicas.begin(number, opened, _COMMAND)
        with shown(progress, opened.batches) as display:
            outcome = run_sweep(opened, ledger, progress=display)
        write_sweep_report(ledger, opened.dataset)
        return [*opened.notes, *outcome.notes]
