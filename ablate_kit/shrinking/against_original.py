"""The smaller model beside the original: AP with the interval of its change, and what both cost."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.costs.cost import Cost
from ablate_kit.costs.measure import Opener, cost_of, devices_here, file_bytes, measure
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison, compare
from ablate_kit.models.adapter import Adapter
from ablate_kit.shrinking.equality import images_of
from ablate_kit.shrinking.judged_on import JudgedOn
from ablate_kit.sweeps.checkpoint_variants import Family, sweep_families
from ablate_kit.sweeps.run import Progress
from ablate_kit.sweeps.variants.variant import Variant
from detector.data.dataset import Dataset


def against_original(
    original: Adapter, smaller: Adapter, on: JudgedOn, progress: Progress
) -> tuple[list[Result], Comparison]:
    """Both on all images, compared with each other. Images without labels take the original's
    boxes."""
    both = {"original": original, "smaller": smaller}
    families = [Family(Variant(name, "checkpoint"), one) for name, one in both.items()]
    seen = on.seen_by(original)
    done = sweep_families(families, seen, on.evaluation, truth=on.truth, progress=progress)
    return done.results, compare(done.truth, done.results, on.evaluation.statistics)


def costs_of_both(
    both: Sequence[tuple[Checkpoint, Adapter]],
    opened_on: Callable[[Checkpoint, str], Adapter],
    dataset: Dataset | None,
    *,
    latency: bool,
) -> list[Cost]:
    """Of two models that are open on the CPU; ``latency``: and memory, there and on a GPU where
    there is one, for which they are ``opened_on`` it."""

    def opener(checkpoint: Checkpoint, adapter: Adapter) -> Opener:
        return lambda device: adapter if device == "cpu" else opened_on(checkpoint, device)

    image = images_of(dataset)[0]
    if latency:
        files = [checkpoint.path for checkpoint, _ in both]
        openers = [opener(*one) for one in both]
        return measure(openers, image, files=files, devices=devices_here())
    return [
        replace(cost_of(adapter, image), file_bytes=file_bytes(checkpoint.path))
        for checkpoint, adapter in both
    ]
