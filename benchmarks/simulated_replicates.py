"""How often what is said of several checkpoints is wrong (``metrics.uncertainty.replicates``).

    python benchmarks/simulated_replicates.py [--studies 4000] [--shared ../shared/data]

A study is one cut in K checkpoints on N images. An image's part in the change of a checkpoint is
the true mean, what is the checkpoint's own (a standard deviation ``s``), what is the image's in all
checkpoints, and what is the image's in this one alone. Changes are means over images, so that
intervals and tests are those of the package, without a detector. Printed are the share of 95 %
intervals over checkpoints and images that leave out the true mean, and the share of cuts without
any difference between checkpoints of which the test says that they differ, at p < 0.05 and 0.002.
Then, of 24 cuts each of which costs much in all checkpoints but one, and there just less than the
margin, the share of a tenth of the studies in which any is said to cost in all.

With ``--shared``, whose files are not part of this repository, rows of real metrics follow: COCO's
photographs are drawn with replacement, and unmodified models and cuts are DEIMv2-Atto's detections,
shaken anew, so that every true change is 0 in every checkpoint.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from chosen_images import take
from populations import populations, shaken
from simulated_studies import CHANCE, MARGIN, SEEN, VARIANTS

from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.uncertainty import replicates
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap, Floats, Sampled, draws, left_out
from ablate_kit.metrics.uncertainty.chance import paired_test
from ablate_kit.metrics.uncertainty.multiplicity import max_t
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.metrics.uncertainty.verdict import verdicts

RESAMPLES = 500
NOTHING = Change(*[None] * 8)
SHARES = {"shared": (0.1, 0.0), "half": (0.07, 0.07), "own": (0.0, 0.1)}


def sampled(parts: Floats, weights: Floats) -> Sampled:
    """The mean over images, on the data and on samples of it."""
    means = parts @ weights / weights.sum(axis=0)
    end = 1 + RESAMPLES
    return Sampled(float(means[0]), means[1:end], means[end:], len(parts), ratio=True)


def study(
    generator: np.random.Generator, weights: Floats, checkpoints: int, own: float, share: str
) -> list[Sampled]:
    images = len(weights)
    of_all, of_one = SHARES[share]
    parts = generator.normal(0, of_all, images) + generator.normal(0, of_one, (checkpoints, images))
    parts += generator.normal(0, own, (checkpoints, 1))
    return [sampled(one, weights) for one in parts]


def wrong_in_all(studies: int, checkpoints: int) -> tuple[float, float]:
    """The shares of studies with a cut that all checkpoints say to cost, one of them wrongly: by
    their own verdicts, and by what is said of all of them."""
    generator = np.random.Generator(np.random.Philox([checkpoints, 24]))
    each = of_all = 0
    for _ in range(studies):
        drawn = [_changes(generator, one, checkpoints) for one in range(checkpoints)]
        changes = [_judged(one) for one in drawn]
        found = replicates.replicated(
            list(zip(*changes, strict=True)), list(zip(*drawn, strict=True))
        )
        of_all += any(one.outcome == "costs" for one in found)
        each += any(
            all(own.verdict and own.verdict.outcome == "costs" for own in one.changes)
            for one in found
        )
    return each / studies, of_all / studies


def _changes(generator: np.random.Generator, one: int, checkpoints: int) -> list[Sampled]:
    """Of 24 cuts in one checkpoint, of which every so manieth is at the margin in this one."""
    error, alternating = CHANCE / SEEN**0.5, np.resize([-1.0, 1.0], SEEN) / (SEEN - 1) ** 0.5
    found = []
    for cut in range(VARIANTS):
        true = 1e-9 - MARGIN if cut % checkpoints == one else -10 * MARGIN
        value, *moved = true + error * generator.normal(0, 1, 1 + RESAMPLES)
        resampled = value + np.array(moved) - true
        found.append(Sampled(value, resampled, value + error * alternating, SEEN, ratio=False))
    return found


def _judged(differences: Sequence[Sampled]) -> list[Change]:
    tests = [test for one in differences if (test := paired_test(one)) is not None]
    found = verdicts(tests, max_t(tests), SEEN, MARGIN)
    return [replace(NOTHING, verdict=one) for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=4000)
    parser.add_argument("--shared", type=Path)
    asked = parser.parse_args()
    print("checkpoints  images  s of them  images' part  left out  differ < 0.05  < 0.002")
    for checkpoints in (2, 3, 5):
        for images in (20, 100):
            drawn = draws(images, RESAMPLES, 0, room=images)
            drawn[:, 1 + RESAMPLES :] = left_out(images, images, 0)
            weights = drawn.astype(float)
            for own in (0.0, 0.01, 0.03):
                for share in SHARES:
                    generator = np.random.Generator(np.random.Philox([checkpoints, images]))
                    out, differ = 0, []
                    for _ in range(asked.studies):
                        found = study(generator, weights, checkpoints, own, share)
                        one = replicates.replicated([[NOTHING] * checkpoints], [found])[0]
                        if one.low is not None and one.high is not None:
                            out += not one.low <= 0 <= one.high
                        differ.append(one.p_differ)
                    missed = f"{out / asked.studies:8.1%}" if checkpoints > 2 else "       -"
                    known = [p for p in differ if p is not None]
                    told = "            -        -"
                    if not own and SHARES[share][1]:
                        five, two = (np.mean([p < at for p in known]) for at in (0.05, 0.002))
                        told = f"{five:13.1%}  {two:7.2%}"
                    print(
                        f"{checkpoints:11}  {images:6}  {own:9.2f}  {share:>12}  {missed}  {told}",
                        flush=True,
                    )
    for checkpoints in (2, 3, 5):
        each, of_all = wrong_in_all(asked.studies // 10, checkpoints)
        print(
            f"{checkpoints} checkpoints, 24 cuts: any wrongly found to cost in all of them: "
            f"{each:.1%} by each one's verdict, {of_all:.1%} by what is said of all",
            flush=True,
        )

    if asked.shared:
        of_detections(asked.shared, asked.studies)


def of_detections(shared: Path, studies: int) -> None:
    null = next(one for one in populations(shared) if one.name == "null")
    print("images  metric          checkpoints  left out  differ < 0.05  < 0.002")
    for images in (25, 50, 100):
        found: dict[tuple[str, int], list[replicates.Replicated]] = {}
        for trial in range(studies):
            rng = np.random.default_rng([2, images, trial])
            source = np.sort(rng.integers(0, len(null.truth.image_ids), images))
            sample, (one,) = take(null.truth, null.pair[:1], source)
            bootstrap = Bootstrap(sample, RESAMPLES, trial)
            copies = [
                bootstrap.samples(shaken(one, 6 * trial + copy), 0.4, per_class=False).overall
                for copy in range(6)
            ]
            for key in KEYS:
                drawn = [copies[2 * i + 1][key] - copies[2 * i][key] for i in range(3)]
                for count in (2, 3):
                    told = replicates.replicated([[NOTHING] * count], [drawn[:count]])
                    found.setdefault((key, count), []).extend(told)
        for (metric, count), rows in found.items():
            ends = [
                (row.low, row.high) for row in rows if row.low is not None and row.high is not None
            ]
            missed = [not low <= 0 <= high for low, high in ends]
            left = f"{np.mean(missed):9.1%}" if missed else "        -"
            ps = np.array([row.p_differ for row in rows if row.p_differ is not None])
            shares = f"{np.mean(ps < 0.05):13.1%}  {np.mean(ps < 0.002):7.2%}"
            print(f"{images:6}  {metric:14}  {count:11}  {left}  {shares}", flush=True)


if __name__ == "__main__":
    main()
