"""Which of many ablations are worth an exact evaluation, estimated to first order for all at once.

An ablation changes weights by dW. To first order a score s changes by the sum of ds/dW dW, which
for a head or a channel is gradient times activation difference, summed over all places (Molchanov
et al. 2019 for units; attribution patching, Nanda 2023, for activations). One pass forward and one
backward of an image give it for every ablation.

What counts are the objects that the detector finds: their scores, and their boxes as a share of the
image, each with a sign drawn at random, so that what one object gains does not hide what another
loses. The estimate is the mean over images of its size. It ranks; it does not say how much AP.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import edited
from ablate_kit.ablations.draws import Draws
from ablate_kit.ablations.name_patterns import to_model_keys
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.matching import Outcome, greedy_matches
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.inference.detect import inference, placed
from ablate_kit.models.inference.followed_scores import Followed, followed
from ablate_kit.models.labels.classes import match_classes
from ablate_kit.models.labels.truth import ground_truth
from ablate_kit.sweeps.recipes.sweep_recipe import ScreenSection
from ablate_kit.sweeps.run_folder.screened import Screened
from detector.data.dataset import Dataset, is_labelled, sample, subset

Advance = Callable[[str, int], None]


def screen(
    adapter: Adapter,
    dataset: Dataset,
    ablations: Sequence[Ablation],
    section: ScreenSection,
    score_threshold: float,
    advance: Advance = lambda _, __: None,
) -> Screened:
    """Estimates all, and chooses.

    Args:
        ablations: random controls among them go with what they are controls of.
        score_threshold: from which a detection counts where images have no labels.

    Raises:
        UserError: scores do not lead back to the weights.
    """
    named = [one for one in ablations if "control_of" not in one.factors]
    able = [one for one in named if one.edits and not one.live]
    estimated = {one.name for one in able}
    images = sample(dataset, section.images, section.seed)
    found = _estimates(adapter, images, able, section.seed, score_threshold, advance)
    ranked = sorted(found, key=lambda name: -found[name])
    generator = np.random.default_rng(section.seed)
    count = min(section.sample, len(able))
    drawn = sorted(generator.choice(len(able), count, replace=False).tolist())
    return Screened(
        images=len(images),
        estimates=found,
        kept=ranked[: section.keep],
        drawn=[able[i].name for i in drawn],
        exact=[one.name for one in named if one.name not in estimated],
    )


def check_can_screen(adapter: Adapter, dataset: Dataset) -> None:
    """Raises ``UserError`` where scores do not lead back to the weights, by the first image."""
    state = adapter.module.state_dict(keep_vars=True)
    floating = [one for one in state.values() if one.is_floating_point()]
    with _following(adapter, floating):
        followed(adapter, placed(adapter, adapter.prepare(dataset.image(0))))


@contextmanager
def _following(adapter: Adapter, weights: Sequence[Tensor]) -> Iterator[None]:
    """Gradients of these weights alone, within the block."""
    state = adapter.module.state_dict(keep_vars=True)
    before = {id(one): one.requires_grad for one in state.values()}
    try:
        for one in state.values():
            one.requires_grad_(requires_grad=False)
        for one in weights:
            one.requires_grad_()
        with inference(adapter.module), torch.enable_grad():
            yield
    finally:
        for one in state.values():
            if one.is_floating_point():
                one.requires_grad_(before[id(one)])


def _estimates(
    adapter: Adapter,
    images: Dataset,
    ablations: Sequence[Ablation],
    seed: int,
    score_threshold: float,
    advance: Advance,
) -> dict[str, float]:
    state = adapter.module.state_dict(keep_vars=True)
    changes = _changes(state, ablations, adapter.live_names())
    weights = [state[name] for name in changes]
    total = np.zeros(len(ablations))
    labels = match_classes(adapter.classes, images.classes) if is_labelled(images) else None
    with _following(adapter, weights):
        for i in range(len(images)):
            seen = followed(adapter, placed(adapter, adapter.prepare(images.image(i))))
            if labels is None:
                counts = seen.found.scores >= score_threshold
            else:
                counts = _found_objects(ground_truth(subset(images, [i])), seen, labels)
            gradients = _gradients(seen, counts, weights, np.random.default_rng([seed, i]))
            changed = np.zeros(len(ablations))
            for change, gradient in zip(changes.values(), gradients, strict=True):
                if gradient is not None:
                    changed += change @ gradient.flatten().cpu().double().numpy()
            total += np.abs(changed)
            advance("screening", 1)
    return {
        one.name: float(value) / len(images) for one, value in zip(ablations, total, strict=True)
    }


def _changes(
    state: Mapping[str, Tensor],
    ablations: Sequence[Ablation],
    live_names: Mapping[str, Sequence[str]],
) -> dict[str, sparse.csr_array]:
    """By tensor of the model (ablations, its elements): by how much each element changes."""
    entries: dict[str, list[tuple[int, Tensor, Tensor]]] = {}
    draws = Draws()
    for row, one in enumerate(ablations):
        names = [
            there
            for edit in one.edits
            for there in to_model_keys(edit.tensor, state, live_names, whole=edit.alike)
        ]
        own = {id(state[name]): name for name in reversed(names)}  # one that is shared, once
        before = {name: state[name].detach().clone() for name in own.values()}
        with edited(state, one, live_names, draws):
            for name, old in before.items():
                moved = (state[name].detach() - old).flatten().cpu().double()
                places = moved.nonzero()[:, 0]
                entries.setdefault(name, []).append((row, places, moved[places]))
    return {
        name: sparse.csr_array(
            (
                torch.cat([values for *_, values in parts]).numpy(),
                (
                    np.repeat([row for row, *_ in parts], [len(places) for _, places, _ in parts]),
                    torch.cat([places for _, places, _ in parts]).numpy(),
                ),
            ),
            shape=(len(ablations), state[name].numel()),
        )
        for name, parts in entries.items()
    }


def _found_objects(truth: GroundTruth, seen: Followed, labels: np.ndarray) -> np.ndarray:
    """(k,) which detections of one image are of its objects."""
    own = labels[seen.found.labels]
    kept = np.flatnonzero(own >= 0)
    columns = seen.found.boxes[kept], seen.found.scores[kept], own[kept]
    matches = greedy_matches(truth, Detections(np.zeros(len(kept), np.int64), *columns))
    counts = np.zeros(len(own), np.bool_)
    counts[kept[matches.outcome == Outcome.TRUE_POSITIVE]] = True
    return counts


def _gradients(
    seen: Followed, counts: np.ndarray, weights: Sequence[Tensor], generator: np.random.Generator
) -> list[Tensor | None]:
    chosen = torch.from_numpy(np.flatnonzero(counts)).to(seen.scores.device)
    if not len(chosen):
        return [None] * len(weights)
    signs = torch.from_numpy(generator.choice([-1.0, 1.0], (len(chosen), 5)))
    signs = signs.to(seen.scores)
    value = (signs[:, 0] * seen.scores[chosen]).sum()
    if seen.boxes is not None:
        value = value + (signs[:, 1:] * seen.boxes[chosen]).sum()
    return list(torch.autograd.grad(value, weights, allow_unused=True))
