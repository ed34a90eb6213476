"""Many ablations of one live model, evaluated one after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply import applied
from ablate_kit.metrics.evaluate import Evaluation, evaluate
from ablate_kit.models.adapter import Adapter, detect_all, ground_truth
from detector.data.dataset import Dataset

BASELINE = "unmodified"


@dataclass(frozen=True)
class Result:
    """A variant and its numbers. The first of a list is the one that others are held against."""

    name: str
    kind: str
    evaluation: Evaluation


def sweep(
    adapter: Adapter,
    dataset: Dataset,
    ablations: Sequence[Ablation],
    *,
    batch_size: int = 8,
    fixed_threshold: float = 0.5,
    advance: Callable[[str, int], None] = lambda _, __: None,
) -> Iterator[Result]:
    """The unmodified model's result, then one per ablation.

    The score threshold is calibrated on the unmodified model and kept for the others. ``advance``
    is told the variant's name and how many of its images were just done.
    """
    truth = ground_truth(dataset)
    threshold: float | None = None

    def result(name: str, kind: str) -> Result:
        found = detect_all(
            adapter, dataset, batch_size=batch_size, advance=lambda n: advance(name, n)
        )
        numbers = evaluate(truth, found, score_threshold=threshold, fixed_threshold=fixed_threshold)
        return Result(name, kind, numbers)

    baseline = result(BASELINE, BASELINE)
    yield baseline
    threshold = baseline.evaluation.thresholds.calibrated
    for ablation in ablations:
        with applied(adapter.module, ablation, adapter.live_names()):
            one = result(ablation.name, ablation.kind)
        yield one
