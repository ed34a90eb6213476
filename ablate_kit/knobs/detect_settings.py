"""What a detector finds in each of several settings, in one pass over the images."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from ablate_kit.knobs.reused_calls import ReusedCalls
from ablate_kit.metrics.detections import MAX_DETECTIONS, Detections
from ablate_kit.models.adapter import Adapter, Prepared
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.models.inference.batches import batch_sizes, groups, prepared_batches
from ablate_kit.models.inference.detect import Collector, inference
from ablate_kit.models.model_knobs import Knobs
from ablate_kit.sweeps.execution.identical import identical
from detector.data.dataset import Dataset

Found = list[list[ImageDetections]]  # by detector and image

_WHOLE = (
    "settings that share what they compute differ in a bit from those that run whole, on the first "
    "batch; all of them run whole"
)


def detect_settings(
    knobs: Knobs,
    families: Sequence[Sequence[Adapter]],
    dataset: Dataset,
    *,
    batch_size: int,
    limit: int = MAX_DETECTIONS,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[list[list[Detections]], list[str]]:
    """Detections of each detector of each family, and what did not go as planned.

    The detectors of a family take the same prepared images, and share the calls of modules that
    they have in common. On the first batch each runs whole, too: where one differs in a bit, the
    family runs whole.

    Args:
        limit: how many detections of an image are kept.
        advance: told how many passes of one detector over one image are done.
    """
    sizes = batch_sizes(len(dataset), batch_size)
    found = []
    notes: list[str] = []
    for family in families:
        stores = [Collector(one, dataset, limit) for one in family]
        calls = ReusedCalls()
        with ExitStack() as stack:
            stack.enter_context(inference(family[0].module))
            if len(family) > 1:
                for one in family:
                    stack.enter_context(calls.within(knobs.reusable(one)))
            start = 0
            whole = len(family) == 1
            for prepared in prepared_batches(family[0], dataset, sizes):
                if start == 0 and not whole:
                    whole = not _agree(family, prepared, calls)
                    notes += [_WHOLE] if whole else []
                batch = _batch(family, prepared, calls, whole=whole)
                for store, those in zip(stores, batch, strict=True):
                    store.add(range(start, start + len(prepared)), those)
                start += len(prepared)
                advance(len(prepared) * len(family))
        found.append([one.detections() for one in stores])
    return found, notes


def _batch(
    family: Sequence[Adapter], prepared: Sequence[Prepared], calls: ReusedCalls, *, whole: bool
) -> Found:
    found: list[dict[int, ImageDetections]] = [{} for _ in family]
    for group in groups(prepared):
        with ExitStack() as stack:
            if whole:
                stack.enter_context(calls.paused())
            for one, own in zip(family, found, strict=True):
                results = one.decode(one.forward(group.inputs), group.origins)
                own |= zip(group.positions, results, strict=True)
        calls.forget()
    return [[own[i] for i in range(len(prepared))] for own in found]


def _agree(family: Sequence[Adapter], prepared: Sequence[Prepared], calls: ReusedCalls) -> bool:
    """Whether what detectors put out is the same, bit for bit, as when each runs whole."""
    group = groups(prepared)[0]

    def same(one: Adapter) -> bool:
        outputs = one.forward(group.inputs)
        with calls.paused():
            return identical(outputs, one.forward(group.inputs))

    agreed = all(same(one) for one in family)
    calls.forget()
    return agreed
