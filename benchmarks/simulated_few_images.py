"""How often intervals of F1 and GIoU hold the truth on few images, most of which show no change.

    python benchmarks/simulated_few_images.py [--studies 2000]

Images have one to six objects, of which the unmodified model finds seven in ten, with a false
positive in two images. Without a part, an image loses objects only with some probability, half of
what was found there; or loses them as often as it gains some, so that nothing changes in truth.
GIoU is the mean over objects, -1 for one that is missed. Told, by the number of images and by the
share of them that changes: the share of intervals that hold the truth, of studies without one
(all images alike), and of false stars of one variant where nothing changes in truth.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from ablate_kit.metrics.uncertainty.bootstrap import Floats, Sampled, draws, left_out
from ablate_kit.metrics.uncertainty.chance import paired_test

IMAGES, CHANGED, RESAMPLES, POPULATION = (5, 10, 20, 50), (0.05, 0.2, 1.0), 500, 200_000


@dataclass(frozen=True)
class Images:
    """By image: objects, those that both models find and their summed GIoU, false positives."""

    objects: Floats
    found: tuple[Floats, Floats]
    giou: tuple[Floats, Floats]
    false: Floats

    @classmethod
    def drawn(cls, rng: np.random.Generator, count: int, share: float, *, gains: bool) -> "Images":
        objects = rng.integers(1, 7, count)
        before = rng.binomial(objects, 0.7)
        changes = rng.random(count) < share
        lost, gained = rng.binomial(before, 0.5), rng.binomial(objects - before, 0.5)
        up = rng.random(count) < 0.5 if gains else np.zeros(count, dtype=bool)
        after = np.where(changes, np.where(up, before + gained, before - lost), before)
        if gains:  # as many of the one kind as of the other: one model is as good as the other
            swap = rng.random(count) < 0.5
            before, after = np.where(swap, after, before), np.where(swap, before, after)
        quality = rng.beta(8, 2, count)
        giou = tuple(found * quality - (objects - found) for found in (before, after))
        false = rng.binomial(1, 0.5, count)
        one, other = before.astype(float), after.astype(float)
        return cls(objects.astype(float), (one, other), (giou[0], giou[1]), false.astype(float))

    def change(self, metric: str, weights: Floats) -> Floats:
        """On each sample, a column of ``weights``."""
        objects, false = self.objects @ weights, self.false @ weights
        if metric == "F1":
            ends = [
                2 * (found @ weights) / (found @ weights + false + objects) for found in self.found
            ]
        else:
            ends = [(giou @ weights) / objects for giou in self.giou]
        return np.asarray(ends[1] - ends[0])


def simulate(studies: int, *, gains: bool) -> None:
    for share in CHANGED:
        rng = np.random.default_rng([1, int(100 * share), gains])
        every = Images.drawn(rng, POPULATION, share, gains=gains)
        whole = np.ones((POPULATION, 1))
        for images in IMAGES:
            told = []
            drawn = draws(images, RESAMPLES, images)[:, 1:].astype(float)
            rest = left_out(images, images, images).astype(float)
            rng = np.random.default_rng([2, int(100 * share), images, gains])
            known = [Images.drawn(rng, images, share, gains=gains) for _ in range(studies)]
            for metric in ("F1", "GIoU"):
                true = 0.0 if gains else float(every.change(metric, whole)[0])
                held, none, stars = 0, 0, 0
                for one in known:
                    value = float(one.change(metric, np.ones((images, 1)))[0])
                    resampled, left = one.change(metric, drawn), one.change(metric, rest)
                    test = paired_test(Sampled(value, resampled, left, images, ratio=True))
                    low, high = test.ends() if test else (None, None)
                    stars += test is not None and test.p < 0.05
                    if low is None or high is None:
                        none += 1
                    else:
                        held += low <= true <= high
                shown = f"{100 * held / (studies - none):.1f} %" if none < studies else "-"
                more = f", stars {100 * stars / studies:.1f} %" if gains else ""
                told.append(f"{metric} {shown} (none {100 * none / studies:.0f} %{more})")
            what = "gains as losses" if gains else "losses alone"
            print(
                f"{what} on {share:.0%} of images, {images} images: {', '.join(told)}", flush=True
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    studies = parser.parse_args().studies
    simulate(studies, gains=False)
    simulate(studies, gains=True)
