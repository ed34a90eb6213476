"""A sweep whose parts are open: its variants, its cost, its folder, and the run itself."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.kinds.donor_modules import Patch
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.resample import check_batches
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError
from ablate_kit.metrics.result import is_control
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.labels.classes import unmatched_classes
from ablate_kit.models.labels.own_objects import looked_at_for
from ablate_kit.models.labels.truth import crowded
from ablate_kit.models.opening.framework_registry import anatomy_of
from ablate_kit.plural import counted
from ablate_kit.sweeps.backends.placement import Placement
from ablate_kit.sweeps.backends.process_backend import processes
from ablate_kit.sweeps.backends.ray_backend import cluster
from ablate_kit.sweeps.backends.worker import (
    DEFAULTS,
    Here,
    RunOptions,
    Worker,
    WorkerSpec,
    prepared_bytes,
)
from ablate_kit.sweeps.estimates.pass_cost import PassCost, pass_cost
from ablate_kit.sweeps.provenance.about import About
from ablate_kit.sweeps.provenance.data_digest import DataDigest, data_digest
from ablate_kit.sweeps.provenance.fingerprint import fingerprint_of
from ablate_kit.sweeps.recipes.donor_variants import donated
from ablate_kit.sweeps.recipes.recipe_rounds import RecipeRounds, Search
from ablate_kit.sweeps.recipes.recipe_text import recipe_text
from ablate_kit.sweeps.recipes.reference_images import ReferenceImages
from ablate_kit.sweeps.recipes.screening import check_can_screen, screen
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.run import UNWATCHED, Progress, begun, run_stretches
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.run_folder.screened import screened
from ablate_kit.sweeps.scheduling.engine import Pool
from ablate_kit.sweeps.scheduling.race import Race, check_race, schedule
from ablate_kit.sweeps.scheduling.scheduler import Batches, BatchResult, Evaluating, rounds_of
from ablate_kit.sweeps.scheduling.scores import Scores
from ablate_kit.sweeps.variants.tied_names import notes_on_tied
from ablate_kit.sweeps.variants.variant import UNMODIFIED, Variant
from detector.data.dataset import Dataset, check_scorable, is_labelled, notes_on
from detector.training.recipes.data_sections import OneSet


@dataclass(frozen=True)
class SweepRun:
    """A sweep that has ended; every number is in its ledger."""

    ledger: Ledger
    searches: Sequence[Search] = ()
    removed: Sequence[Ablation] = ()  # by searches and rankings, step by step, with controls
    notes: Sequence[str] = ()


@dataclass
class OpenSweep:
    """A recipe whose checkpoint, images and ablations are there.

    Attributes:
        notes: what of the data set is read otherwise than it is written, or not known to the model.
        before_folder: is given what a run is made from, before anything of it is written.
    """

    recipe: SweepRecipe
    placement: Placement
    checkpoint: Checkpoint
    given: Adapter | None = None  # the model, where it is open already
    ablations: list[Ablation] = field(init=False)
    donated: list[Variant] = field(init=False, default_factory=list)  # with a donor's tensors
    dataset: Dataset = field(init=False)
    notes: list[str] = field(init=False)
    before_folder: Callable[[Mapping[str, Any]], None] | None = field(init=False, default=None)
    _data: DataDigest | None = field(init=False, default=None)
    _donor: dict[str, str] = field(init=False, default_factory=dict)  # of its fingerprint

    def __post_init__(self) -> None:
        references: list[ReferenceImages] = []

        def reference() -> ReferenceImages:
            if references:
                return references[0]
            images = (self.recipe.reference or self.recipe.data).dataset()
            # On what the variants will run: means of another device differ in their last bits.
            device = self.placement.devices[0]
            adapter = self.adapter if self._device == device else self._opened(device)
            references.append(ReferenceImages(adapter, images, self.recipe.evaluation.batch_size))
            return references[0]

        self.source = KindContext(
            self.checkpoint,
            reference,
            lambda: self.adapter,
            anatomy_of(self.checkpoint, self.recipe.model.framework),
        )
        self.ablations = self.recipe.make(self.source)  # mistakes show before a model is made
        if self.recipe.reference and not references:
            raise UserError("reference is set, and no line takes a mean over its images")
        references.clear()  # the memory that a model took on a GPU is the workers'
        adapter = self.adapter
        self.dataset = looked_at_for(self._images, adapter.classes)
        check_scorable(self.dataset)
        missing = unmatched_classes(adapter.classes, self.dataset)
        truth = self.recipe.evaluation.truth(self.dataset)
        if self.recipe.race:
            check_race(self.recipe, is_labelled(self.dataset), truth)
        if self.recipe.patch:
            self._patch(self.recipe.patch)
        self.notes = [*notes_on(self.dataset), *missing, *crowded(truth)]
        check_batches(self.ablations, len(self.dataset), self.recipe.evaluation.batch_size)
        if self.recipe.screen:
            check_can_screen(adapter, self.dataset)

    @property
    def variants(self) -> list[Variant]:
        """All that are known before any is evaluated."""
        return [*map(Variant.of, self.ablations), *self.donated]

    def _patch(self, line: Patch) -> None:
        if not self.placement.here:
            raise UserError("a donor's tensors stay in one process: give --device one device")
        if not is_labelled(self.dataset):
            raise UserError("patch needs labels: the donor may be better than the model")
        self.donated, self._donor = donated(
            line,
            self.adapter,
            self.recipe.model,
            self._device,
            trust_remote_code=self.placement.trust_remote_code,
        )
        both = {one.name for one in self.ablations} & {one.name for one in self.donated}
        if both:
            raise UserError(
                f'a module of the donor and another line are both named "{min(both)}"; give '
                "the donor a recipe of its own"
            )

    def on(self, data: OneSet) -> None:
        """From here on, with other images of the same data set."""
        self.recipe = self.recipe.model_copy(update={"data": data})
        self.dataset = looked_at_for(data.dataset(), self.adapter.classes)

    @cached_property
    def adapter(self) -> Adapter:
        """The model in this process."""
        return self.given or self._opened(self._device)

    @property
    def _device(self) -> str:
        """Of the model in this process, which other processes leave idle."""
        return self.placement.devices[0] if self.placement.here else "cpu"

    @cached_property
    def _images(self) -> Dataset:
        return self.recipe.dataset()

    def _opened(self, device: str) -> Adapter:
        _ = self._images  # whose mistakes take less time to find than a model to make
        return self.recipe.model.adapter(
            self.checkpoint, trust_remote_code=self.placement.trust_remote_code, device=device
        )

    def cost(self, memory: float) -> PassCost:
        """By one pass over the first image; ``memory`` as in ``RunOptions``."""
        image = self.adapter.prepare(self.dataset.image(0))
        found = pass_cost(self.adapter, image, self.variants, memory)
        return replace(found, searches=self._searches, joint=self._joint)

    @property
    def _searches(self) -> list[tuple[int, int]]:
        """Rounds and variants of each greedy search."""
        return [line.size(self.source) for line in self.recipe.searches]

    @property
    def _joint(self) -> int:
        """Cuts of more and more parts, ranked by their numbers."""
        named = {one.name: one for one in self.ablations if not is_control(one.factors)}
        return sum(line.count(named) for line in self.recipe.rankings)

    @property
    def chosen_later(self) -> int:
        """How many variants searches and rankings add, at most, to those that are known before."""
        return sum(tries for _, tries in self._searches) + self._joint

    def count_of(self, what: str) -> str:
        """In words, how many variants there are, and how many are chosen on the way."""
        known, later = len(self.variants), self.chosen_later
        if not later:
            return counted(known, what)
        chosen = f"{counted(later, what)} chosen on the way"
        return f"{counted(known, what)} and {chosen}" if known else chosen

    def ledger(self, folder: Path, workers: int = 2) -> Ledger:
        """The run of this sweep in a folder, or a new one; hold ``Ledger.locked(folder)``.

        Raises:
            UserError: the folder holds another sweep, or something else.
        """
        data = data_digest(self.dataset, workers)
        self._data = data
        inputs = self._inputs(data)
        if self.before_folder:
            self.before_folder(inputs)
        found = Ledger(folder, inputs)
        known = screened(folder) if self.recipe.screen else None
        if known:
            self.ablations = known.chosen(self.ablations)
        return found

    def begin(self, folder: Path, command: str, workers: int = 2) -> Ledger:
        """``ledger``, which says from now on what the run is about and how it was begun."""
        found = self.ledger(folder, workers)
        found.describe(recipe_text(self.recipe))
        About.of(self.recipe, self.dataset, command, found.inputs["framework"]).keep(folder)
        return found

    def done(self, ledger: Ledger) -> tuple[bool, str]:
        """Whether anything is done, and how much, in words."""
        variants = self.variants
        named, _ = ledger.done(variants, self.batches)
        finished, batches = ledger.done([UNMODIFIED, *variants], self.batches)
        progress = f"{named} of {len(variants)} variants"
        if later := self.chosen_later:
            chosen = f"{min(later, ledger.count - finished)} of {later} variants chosen on the way"
            progress = f"{progress} and {chosen}" if variants else chosen
        if finished < len(variants) + 1:
            progress += f" and {batches} of {len(self.batches)} batches of images for the others"
            return bool(finished or batches), progress
        return True, progress

    def run(
        self,
        ledger: Ledger,
        options: RunOptions = DEFAULTS,
        progress: Progress = UNWATCHED,
        chosen: Evaluating | None = None,
    ) -> SweepRun:
        """Finishes every variant that the ledger lacks.

        ``chosen`` rounds run in place of the recipe's; the run is then about what ``ablations``
        holds when they have ended.

        Raises:
            UserError: a file changed on disk meanwhile, or a worker found another one.
        """
        evaluation = self.recipe.evaluation
        self._screen(ledger, progress)
        truth, labelled = begun(ledger, evaluation.truth(self.dataset), is_labelled(self.dataset))
        if self._data:
            ledger.note(self._data.notes(evaluation.cluster))
        unchanged = partial(self._check_unchanged, ledger, options.workers)
        planned = RecipeRounds(self.recipe, self.source)
        looks = None if chosen else self.looks()
        if looks:
            stretches = Race(
                self.variants,
                truth,
                self.batches,
                ledger,
                looks,
                evaluation,
                check=unchanged,
                watch=progress.look,
            ).stretches()
        else:
            rounds = chosen or planned.rounds(self.variants, self.ablations, first=not labelled)
            scores = Scores(
                ledger,
                truth,
                self.batches,
                fixed_threshold=evaluation.score_threshold,
                check=unchanged,
                labelled=labelled,
                watch=progress.score,
            )
            stretches = rounds_of(rounds, partial(ledger.lacking, len(self.batches)), scores.of)

        def take(result: BatchResult) -> None:
            if not self.placement.here:  # which tells its variants one by one
                images = len(self.batches.span(result.batch))
                progress.advance(f"batch {result.batch + 1}", images * len(result.found))

        with self._pool(ledger, options, progress) as pool:
            notes = run_stretches(stretches, self.batches, ledger, pool, progress, take)
        self._close(ledger, planned.removed, looks)
        return SweepRun(ledger, planned.searches, planned.removed, [*ledger.notes(), *notes])

    def _close(self, ledger: Ledger, removed: Sequence[Ablation], looks: Looks | None) -> None:
        """Says in the ledger what the run, which has ended, is about."""
        ledger.note(notes_on_tied(self.adapter, [*self.ablations, *removed]))
        data = self.recipe.data.model_dump(mode="json")
        model = self.recipe.model.model_dump(mode="json")
        order = self.recipe.race.seed if self.recipe.race else None
        told = (self.recipe.evaluation.statistics, data, model, looks, order)
        ledger.close([*self.ablations, *self.donated, *removed], *told)

    def looks(self) -> Looks | None:
        """Of a race: after how many images it looks, to decide about how many ablations."""
        race = self.recipe.race
        if race is None:
            return None
        tested = {one.digest for one in self.variants if not is_control(one.factors)}
        return schedule(self.batches, race.first, race.growth, len(tested), race.futility)

    @property
    def batches(self) -> Batches:
        """Its images, so many at a time."""
        return Batches(len(self.dataset), self.recipe.evaluation.batch_size)

    def _screen(self, ledger: Ledger, progress: Progress) -> None:
        """Leaves the ablations that the recipe's screening chooses, if it has any to do."""
        section = self.recipe.screen
        if section is None or screened(ledger.folder) is not None:
            return
        progress.begin(min(section.images, len(self.dataset)))
        found = screen(
            self.adapter,
            self.dataset,
            self.ablations,
            section,
            self.recipe.evaluation.score_threshold,
            progress.advance,
        )
        found.keep(ledger.folder)
        self.ablations = found.chosen(self.ablations)

    def _check_unchanged(self, ledger: Ledger, workers: int) -> None:
        """Raises ``UserError`` where a file changed, and forgets what is not finished."""
        try:
            now = self._inputs(data_digest(self.dataset, workers))
            for name in ("checkpoint", "configuration", "data"):
                if now[name] != ledger.inputs[name]:
                    raise UserError(
                        f"the {name} changed on disk while the sweep ran; give the command again "
                        "with another folder"
                    )
        except UserError:
            ledger.tidy()
            raise

    def _inputs(self, data: DataDigest) -> dict[str, Any]:
        device = self.placement.devices[0]
        found = fingerprint_of(self.recipe, self.checkpoint, self.dataset, device, data)
        looks, told = self.looks(), self.recipe.evaluation.statistics
        if looks:  # by which variants stop where they do
            found["race"] = (
                f"{looks}; margin {told.margin:g}; {told.resamples} resamples, seed {told.seed}"
            )
        found |= self._donor
        if self.recipe.screen:
            found["screen"] = self.recipe.screen.model_dump()
        return found

    def _pool(
        self, ledger: Ledger, options: RunOptions, progress: Progress
    ) -> AbstractContextManager[Pool]:
        if self.placement.here:
            keep = prepared_bytes(self.recipe)
            worker = Worker(self.adapter, self.dataset, self.recipe.evaluation, options, keep)
            return _here(worker, progress)
        spec = WorkerSpec(
            self.recipe,
            ledger.inputs,
            self.placement.devices[0],
            self.placement.trust_remote_code,
            options,
        )
        if self.placement.ray:
            return cluster(spec, self.placement.ray)
        return processes(spec, self.placement.devices)


@contextmanager
def _here(worker: Worker, progress: Progress) -> Iterator[Here]:
    with worker:
        yield Here(worker, progress.advance)
