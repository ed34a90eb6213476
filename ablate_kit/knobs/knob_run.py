"""Accuracy and cost of a detector in each of several settings."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ablate_kit.costs.cost import Cost
from ablate_kit.costs.latency import TimingRounds
from ablate_kit.costs.measure import BATCHES, measure
from ablate_kit.knobs.detect_settings import detect_settings
from ablate_kit.knobs.knob_settings import Setting
from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.result import Result
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.inference.detect import inference
from ablate_kit.models.labels.own_objects import own_objects
from ablate_kit.models.model_knobs import Knobs
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from ablate_kit.sweeps.run import Sweep
from detector.data.dataset import Dataset, is_labelled

KIND = "knob"


def evaluate_settings(
    adapter: Adapter,
    knobs: Knobs,
    settings: Sequence[Setting],
    dataset: Dataset,
    evaluation: EvaluationSettings,
    *,
    name: str,
    advance: Callable[[int], None],
) -> Sweep:
    """Every metric of every setting, on the images of a data set.

    Args:
        name: of the detector as it is.
        advance: told how many passes, each of one setting over one image, are done.
    """
    truth = evaluation.truth(dataset)
    same_size = [one for one in settings if one.knob != "size"]
    others = [one for one in settings if one.knob == "size"]
    families = [[adapter, *(knobs.configured(one.knob, one.value) for one in same_size)]]
    families += [[knobs.configured(one.knob, one.value)] for one in others]
    _check(families, dataset)
    found, notes = detect_settings(
        knobs,
        families,
        dataset,
        batch_size=evaluation.batch_size,
        limit=evaluation.max_detections,
        advance=advance,
    )
    (own, *of_same), *of_others = found
    detections: dict[Setting, Detections] = dict(zip(same_size, of_same, strict=True))
    detections |= {one: each for one, (each,) in zip(others, of_others, strict=True)}
    fixed = evaluation.score_threshold
    if not is_labelled(dataset):
        truth = own_objects(truth, own, fixed)
    first = Result.of(name, "unmodified", truth, own, threshold=None, fixed_threshold=fixed)
    threshold = first.evaluation.thresholds.calibration
    results = [first]
    for one in settings:
        scored = Result.of(
            one.name, KIND, truth, detections[one], threshold=threshold, fixed_threshold=fixed
        )  # fmt: skip
        results.append(replace(scored, factors={"knob": one.knob, "setting": one.value}))
    known = (knobs.note(one.knob, one.value) for one in settings)
    return Sweep(results, truth, [*notes, *(one for one in known if one)])


def _check(families: Sequence[Sequence[Adapter]], dataset: Dataset) -> None:
    """Raises ``UserError`` for a setting that does not run, before the others run for long."""
    image = dataset.image(0)
    for family in families:
        with inference(family[0].module):
            inputs = family[0].prepare(image).inputs
            for one in family:
                one.forward(inputs)


def cost_of_settings(
    opened: Callable[[str], tuple[Adapter, Knobs]],
    settings: Sequence[Setting],
    dataset: Dataset,
    *,
    devices: Sequence[str],
    batches: Sequence[int] = BATCHES,
    rounds: TimingRounds,
) -> list[Cost]:
    """Of the detector as it is, then of each setting, on the first image; all take turns.

    Args:
        opened: the detector on a device.
    """
    kept: dict[str, tuple[Adapter, Knobs]] = {}

    def on(device: str) -> tuple[Adapter, Knobs]:
        if device not in kept:
            kept.clear()  # the memory of one device at a time
            kept[device] = opened(device)
        return kept[device]

    def in_setting(one: Setting) -> Callable[[str], Adapter]:
        return lambda device: on(device)[1].configured(one.knob, one.value)

    return measure(
        [lambda device: on(device)[0], *map(in_setting, settings)],
        dataset.image(0),
        devices=devices,
        batches=batches,
        rounds=rounds,
    )
