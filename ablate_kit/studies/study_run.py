"""A whole study: opened, planned, run within its budget, and noted so that it can be repeated."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from ablate_kit.checkpoints.hub import with_commit
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.studies.budget import Budget, parse_budget
from ablate_kit.studies.budget_plan import Outline, outline
from ablate_kit.studies.cuts import Cut, lines_of, made, zeroed
from ablate_kit.studies.judge import Judge
from ablate_kit.studies.noted import Noted, NotedPart, noted
from ablate_kit.studies.rounds import MadeCuts, Study
from ablate_kit.studies.spending import Spending
from ablate_kit.sweeps.backends.placement import Placement
from ablate_kit.sweeps.backends.worker import DEFAULTS, RunOptions
from ablate_kit.sweeps.open_sweep import OpenSweep, opened
from ablate_kit.sweeps.provenance.about import About
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from ablate_kit.sweeps.recipes.model_section import ModelSection
from ablate_kit.sweeps.recipes.recipe_text import recipe_text
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe, recipe_of
from ablate_kit.sweeps.run import UNWATCHED, Progress
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.run_sweep import SweepRun, run_sweep
from ablate_kit.sweeps.sweep_folder import ledger_of
from detector.training.devices import thread_count
from detector.training.recipes.data_sections import OneSet

_REPORT = 4.0  # seconds of a report with nothing in it
_REPORT_EACH = 1.7  # of the time that judging a variant while the study runs takes: its row
_REPORT_SHARE = 0.12  # of a budget, for the report, as long as nothing was judged
_REPORT_MOST = 30.0  # seconds, in this case
_STUDY = "the study"  # whom errors in its recipe are told of


@dataclass
class OpenStudy:
    """A study that is planned."""

    sweep: OpenSweep
    outline: Outline
    budget: Budget
    images: int  # on how many it runs
    fitting: int  # on how many it would run if it began anew
    notes: Noted  # of an earlier call on the same folder, or new ones
    began: float = field(default_factory=monotonic)

    @property
    def again(self) -> bool:
        """Whether it goes on with what an earlier call began."""
        return bool(self.notes.rounds)

    def run(
        self,
        folder: Path,
        command: str,
        options: RunOptions = DEFAULTS,
        progress: Progress = UNWATCHED,
    ) -> SweepRun:
        """Everything that the budget allows; hold ``Ledger.locked(folder)``.

        Raises:
            UserError: the folder holds something else, or a file changed on disk meanwhile.
        """
        sweep = self.sweep
        ledger = ledger_of(sweep, folder, options.workers)
        model = ledger.inputs["framework"]
        About.of(sweep.recipe, sweep.dataset, command, model).keep(folder)
        self.notes.keep(folder)
        cuts = [one.cut for one in self.outline.candidates]
        beside = {one.variant: zero for one in cuts if (zero := zeroed(one))}
        study = Study(
            self.outline,
            self.notes,
            MadeCuts(
                made([*cuts, *beside.values()], sweep.source),
                {name: zero.variant for name, zero in beside.items()},
                sweep.checkpoint.shapes,
            ),
            Judge(ledger.truth, ledger.results, sweep.recipe.evaluation.statistics.margin),
            Spending(self.outline, self.budget, self.notes, self._report, self.began),
            lambda: self.notes.keep(folder),
        )
        sweep.ablations = study.evaluated  # which grows with the rounds
        outcome = run_sweep(sweep, ledger, options, progress, study.rounds())
        if self.notes.rounds:
            ledger.describe(recipe_text(self._recipe(cuts)))
        return outcome

    def _report(self, variants: int, judging: float | None) -> float:
        """Seconds of the report on so many variants, of which judging one takes so long."""
        if judging is None:
            return min(_REPORT_MOST, _REPORT_SHARE * (self.budget.seconds or 0.0))
        return _REPORT + _REPORT_EACH * judging * variants

    def _recipe(self, cuts: Sequence[Cut]) -> SweepRecipe:
        """That of what was cut, in the order in which it was."""
        order = [name for group in self.notes.rounds for name in group]
        by_name = {cut.variant: cut for cut in reversed(cuts)}
        by_name |= {zero.variant: zero for one in cuts if (zero := zeroed(one))}
        chosen = [by_name[name] for name in order if name in by_name]
        beside = [cut for cut in chosen if cut.variant in self.notes.controls]
        lines = lines_of(chosen, beside)
        for name, members in self.notes.together.items():
            lines.append({"kind": "joined", "members": members, "name": name})
        own = self.sweep.recipe
        if not lines:
            return own
        return recipe_of(own.model, own.data, lines, own.evaluation, said_by=_STUDY)


@contextmanager
def open_study(
    model: ModelSection,
    data: OneSet,
    budget: Budget,
    evaluation: EvaluationSettings,
    *,
    folder: Path | None,
    placement: Placement,
    adapter: Adapter | None = None,
    tell: Callable[[str], None],
) -> Iterator[OpenStudy]:
    """Opens the model and plans; ``folder``: of a run that may have begun already; ``adapter``:
    the model, where it is open already.

    Raises:
        UserError: something is not there, does not fit together, or the folder's study had another
            budget.
    """
    began = monotonic()
    placement.check()
    earlier = _earlier(folder, budget, evaluation.margin) if folder else None
    model = model.model_copy(update={"checkpoint": with_commit(model.checkpoint)})
    with thread_count(Ledger.threads(folder) if folder else None), model.opened() as checkpoint:
        everything = {"kind": "component", "pattern": ["**"]}
        whole = recipe_of(model, data, [everything], evaluation, said_by=_STUDY)
        first = opened(whole, placement, checkpoint, adapter)
        for note in first.notes:
            tell(note)
        if folder and earlier:
            first.on(_drawn(data, earlier.images, len(first.dataset)))
            ledger_of(first, folder)  # of other inputs, it is refused before all is planned
            first.on(data)
        made_outline = outline(first.source, first.adapter, first.dataset)
        if not made_outline.candidates:
            raise UserError(f"{checkpoint} has no parts that could be told apart")
        fitting = made_outline.images(budget)
        images = earlier.images if earlier else fitting
        made_outline, total = made_outline.on(images), made_outline.total
        first.on(_drawn(data, images, total))
        parts = [
            NotedPart(
                part=one.cut.part,
                head=one.cut.head,
                kind=one.kind,
                elements=one.elements,
                depth=one.depth,
                parent=one.parent,
                how=one.cut.how,
                variant=one.cut.variant,
                made_of=list(one.made_of),
            )
            for one in made_outline.candidates
        ]
        new = Noted(
            budget=str(budget), images=images, total=total, margin=evaluation.margin, parts=parts
        )
        if earlier:
            if [one.variant for one in earlier.parts] != [one.variant for one in parts]:
                raise UserError(
                    f"{folder} is a study by another version, which told parts apart otherwise; "
                    "choose another folder"
                )
            earlier.budget, earlier.total = str(budget), total
        yield OpenStudy(first, made_outline, budget, images, fitting, earlier or new, began)


def _drawn(data: OneSet, images: int, total: int) -> OneSet:
    """So many of a data set's images."""
    return data if images == total else data.model_copy(update={"sample": images})


def _earlier(folder: Path, budget: Budget, margin: float) -> Noted | None:
    """The study that a folder holds, to go on with; None where nothing is begun.

    Raises ``UserError`` where it holds something else, or one that cannot go on so.
    """
    earlier = noted(folder)
    if earlier is None:
        if (folder / "ledger.jsonl").exists():
            raise UserError(f"{folder} is a sweep and no study; choose another folder")
        return None
    if earlier.margin != margin:
        raise UserError(
            f"{folder} is a study with a margin of {earlier.margin:g}; choose another folder, or "
            f"give --margin {earlier.margin:g}"
        )
    before = parse_budget(earlier.budget)
    if not budget.covers(before):
        raise UserError(
            f"{folder} is a study with a budget of {earlier.budget}; give that or more, or choose "
            "another folder"
        )
    return earlier
