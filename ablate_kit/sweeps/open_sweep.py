"""A recipe's sweep with all that it names open: the model, the images, what is cut."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.resample import check_batches
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.result import is_control
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.labels.classes import unmatched_classes
from ablate_kit.models.labels.own_objects import looked_at_for
from ablate_kit.models.labels.truth import crowded
from ablate_kit.models.opening.framework_registry import anatomy_of
from ablate_kit.sweeps.backends.placement import HERE, Placement
from ablate_kit.sweeps.recipes.donor_variants import Donation, donation
from ablate_kit.sweeps.recipes.reference_images import ReferenceImages
from ablate_kit.sweeps.recipes.screening import check_can_screen
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.scheduling.race import schedule
from ablate_kit.sweeps.scheduling.scheduler import Batches
from ablate_kit.sweeps.variants.variant import Variant
from detector.data.dataset import Dataset, check_scorable, is_labelled, notes_on
from detector.training.devices import thread_count
from detector.training.recipes.data_sections import OneSet


@dataclass
class Reference:
    """The images that means are taken over, opened when a line of the recipe first asks for them.

    ``model`` is on the device of the variants: means of another differ in their last bits.
    """

    recipe: SweepRecipe
    model: Callable[[], Adapter]
    found: ReferenceImages | None = None

    def __call__(self) -> ReferenceImages:
        if self.found is None:
            images = (self.recipe.reference or self.recipe.data).dataset()
            batch_size = self.recipe.evaluation.batch_size
            self.found = ReferenceImages(self.model(), images, batch_size)
        return self.found


@dataclass
class OpenSweep:
    """A recipe whose checkpoint, images and ablations are there.

    Attributes:
        adapter: the model in this process.
        reference: the images that means are taken over.
        source: what the ablations are made from.
        ablations: that are evaluated; of a sweep that is screened all, until it is.
        donation: what comes from another checkpoint.
        notes: what of the data set is read otherwise than it is written, or not known to the model.
    """

    recipe: SweepRecipe
    placement: Placement
    checkpoint: Checkpoint
    adapter: Adapter
    reference: Reference
    source: KindContext
    ablations: Sequence[Ablation]
    donation: Donation
    dataset: Dataset
    notes: Sequence[str]

    @property
    def variants(self) -> list[Variant]:
        """All that are known before any is evaluated."""
        return [*map(Variant.of, self.ablations), *self.donation.variants]

    @property
    def batches(self) -> Batches:
        """Its images, so many at a time."""
        return Batches(len(self.dataset), self.recipe.evaluation.batch_size)

    @property
    def looks(self) -> Looks | None:
        """Of a race: after how many images it looks, to decide about how many ablations."""
        race = self.recipe.race
        if race is None:
            return None
        tested = {one.digest for one in self.variants if not is_control(one.factors)}
        return schedule(self.batches, race.first, race.growth, len(tested), race.futility)

    def on(self, data: OneSet) -> None:
        """From here on, with other images of the same data set."""
        self.recipe = self.recipe.model_copy(update={"data": data})
        self.dataset = looked_at_for(data.dataset(), self.adapter.classes)
        self.reference = replace(self.reference, recipe=self.recipe, found=None)
        self.source = replace(self.source, open=self.reference)


def opened(
    recipe: SweepRecipe,
    placement: Placement,
    checkpoint: Checkpoint,
    adapter: Adapter | None = None,
) -> OpenSweep:
    """``adapter``: the model, where it is open already.

    Raises:
        UserError: something of the recipe is not there, or does not fit together.
    """
    images = cache(recipe.dataset)
    theirs = placement.devices[0]  # the variants'
    own = theirs if placement.here else "cpu"  # which other processes leave idle

    def model_on(device: str) -> Adapter:
        images()  # whose mistakes take less time to find than a model to make
        trusted = placement.trust_remote_code
        return recipe.model.adapter(checkpoint, trust_remote_code=trusted, device=device)

    @cache
    def model() -> Adapter:
        return adapter or model_on(own)

    reference = Reference(recipe, model if own == theirs else partial(model_on, theirs))
    anatomy = anatomy_of(checkpoint, recipe.model.framework)
    source = KindContext(checkpoint, reference, model, anatomy)
    ablations = recipe.make(source)  # mistakes show before a model is made
    if recipe.reference and not reference.found:
        raise UserError("reference is set, and no line takes a mean over its images")
    reference.found = None  # the memory that a model took on a GPU is the workers'
    dataset = looked_at_for(images(), model().classes)
    check_scorable(dataset)
    missing = unmatched_classes(model().classes, dataset)
    truth = recipe.evaluation.truth(dataset)
    if recipe.race:
        _check_race(recipe, dataset, truth)
    donated = _donation(recipe, placement, model(), dataset, ablations)
    check_batches(ablations, len(dataset), recipe.evaluation.batch_size)
    if recipe.screen:
        check_can_screen(model(), dataset)
    notes = [*notes_on(dataset), *missing, *crowded(truth)]
    return OpenSweep(
        recipe,
        placement,
        checkpoint,
        model(),
        reference,
        source,
        ablations,
        donated,
        dataset,
        notes,
    )


@contextmanager
def open_sweep(
    recipe: SweepRecipe,
    placement: Placement = HERE,
    *,
    threads: int | None = None,
    adapter: Adapter | None = None,
) -> Iterator[OpenSweep]:
    """What a recipe names, opened.

    Args:
        threads: of a CPU's forward pass, in each process; by default as many as torch takes.
        adapter: the model, where it is open already.

    Raises:
        UserError: something of it is not there, or does not fit together.
    """
    placement.check()
    recipe = recipe.with_commits()
    with thread_count(threads), recipe.model.opened() as checkpoint:
        yield opened(recipe, placement, checkpoint, adapter)


def _check_race(recipe: SweepRecipe, dataset: Dataset, truth: GroundTruth) -> None:
    """Raises ``UserError`` for what a race cannot decide."""
    one_by_one = "a race decides about ablations one by one"
    if recipe.searches:
        raise UserError(f"{one_by_one}; heads-greedy is a search")
    if recipe.rankings:
        raise UserError(f"{one_by_one}; ranked needs the numbers of all of them")
    if recipe.evaluation.adjust != "family":
        raise UserError("a race keeps the chance of any wrong verdict: adjust must be family")
    if not is_labelled(dataset):
        raise UserError("a race needs labels: what it decides by is AP")
    if truth.clusters is not None:
        raise UserError("a race takes images by lot, and these come in clusters")


def _donation(
    recipe: SweepRecipe,
    placement: Placement,
    model: Adapter,
    dataset: Dataset,
    ablations: Sequence[Ablation],
) -> Donation:
    if recipe.patch is None:
        return Donation()
    if not placement.here:
        raise UserError("a donor's tensors stay in one process: give --device one device")
    if not is_labelled(dataset):
        raise UserError("patch needs labels: the donor may be better than the model")
    trusted = placement.trust_remote_code
    found = donation(
        recipe.patch, model, recipe.model, placement.devices[0], trust_remote_code=trusted
    )
    both = {one.name for one in ablations} & {one.name for one in found.variants}
    if both:
        raise UserError(
            f'a module of the donor and another line are both named "{min(both)}"; give '
            "the donor a recipe of its own"
        )
    return found
