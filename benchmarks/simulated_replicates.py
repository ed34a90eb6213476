"""How often what is said of several checkpoints is wrong (``metrics.uncertainty.replicates``).

    python benchmarks/simulated_replicates.py [--studies 4000] [--shared ../shared/data]

A study is one cut in K checkpoints on N images. An image's part in the change of a checkpoint is
the true mean, what is the checkpoint's own (a standard deviation ``s``), what is the image's in all
checkpoints, and what is the image's in this one alone. Changes are means over images, so that
intervals and tests are those of the package, without a detector. Printed are the share of 95 %
intervals over checkpoints and images that leave out the true mean, and the share of cuts without
any difference between checkpoints of which the test says that they differ, at p < 0.05 and 0.002.
Then the same, of a quarter of the studies, where parts are not normal: those of images have heavy
tails, or all but one in five images change nothing, or one in twenty loses much; checkpoints have
heavy tails, or one in five falls behind the others. ``no interval``: all images change alike.
Then, of 24 cuts each of which costs much in all checkpoints but one, and there just less than the
margin, the share of a tenth of the studies in which any is said to cost in all.

Then retrained arms (``retraining.summary``): of four arms that are the baseline in truth, the share
of differences whose interval over seeds leaves out 0, and of studies that say of any arm that it
differs; and of those that say so of other images, too, by both chances
(``retraining.other_images``). ``of these images``: an arm's own part of the 100 images that all are
evaluated on, in standard deviations of its seeds, which makes it differ on these alone.

With ``--shared``, whose files are not part of this repository, rows of real metrics follow: COCO's
photographs are drawn with replacement, and unmodified models and cuts are DEIMv2-Atto's detections,
shaken anew, so that every true change is 0 in every checkpoint.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from chosen_images import take
from populations import populations, shaken
from simulated_studies import CHANCE, MARGIN, SEEN, VARIANTS

from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.uncertainty import replicates
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap, Floats, Sampled, draws, left_out
from ablate_kit.metrics.uncertainty.chance import paired_test
from ablate_kit.metrics.uncertainty.multiplicity import holm, max_t
from ablate_kit.metrics.uncertainty.repeats import combined
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.metrics.uncertainty.verdict import verdicts
from ablate_kit.retraining.summary import Difference

RESAMPLES, ARMS, SEEDS_SEE = 500, 4, 100
NOTHING = Change(*[None] * 8)
Parts = Callable[[np.random.Generator, tuple[int, int]], Any]
# Of mean 0 and variance 1.
OWN: dict[str, Parts] = {
    "normal": lambda drawn, shape: drawn.normal(0, 1, shape),
    "heavy tails": lambda drawn, shape: drawn.standard_t(3, shape) / 3**0.5,
    "one in five falls behind": lambda drawn, shape: (0.2 - (drawn.random(shape) < 0.2)) / 0.4,
}
PARTS: dict[str, Parts] = {
    "normal": OWN["normal"],
    "heavy tails": OWN["heavy tails"],
    "one in five changes": lambda drawn, shape: (
        drawn.normal(0, 1, shape) * (drawn.random(shape) < 0.2) / 0.2**0.5
    ),
    "one in twenty loses": lambda drawn, shape: (
        (0.05 - (drawn.random(shape) < 0.05)) / (0.05 * 0.95) ** 0.5
    ),
}
SHARES = {"shared": (0.1, 0.0), "half": (0.07, 0.07), "own": (0.0, 0.1)}


def sampled(parts: Floats, weights: Floats) -> Sampled:
    """The mean over images, on the data and on samples of it."""
    means = parts @ weights / weights.sum(axis=0)
    end = 1 + RESAMPLES
    return Sampled(float(means[0]), means[1:end], means[end:], len(parts), ratio=True)


def study(
    generator: np.random.Generator,
    weights: Floats,
    checkpoints: int,
    own: float,
    share: str,
    kind: str = "normal",
    of_checkpoints: str = "normal",
) -> list[Sampled]:
    images = len(weights)
    of_all, of_one = SHARES[share]
    parts = of_all * PARTS[kind](generator, (1, images))
    parts = parts + of_one * PARTS[kind](generator, (checkpoints, images))
    parts = parts + own * OWN[of_checkpoints](generator, (checkpoints, 1))
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
            weights = weights_of(images)
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
    not_normal(asked.studies // 4)
    for checkpoints in (2, 3, 5):
        each, of_all = wrong_in_all(asked.studies // 10, checkpoints)
        print(
            f"{checkpoints} checkpoints, 24 cuts: any wrongly found to cost in all of them: "
            f"{each:.1%} by each one's verdict, {of_all:.1%} by what is said of all",
            flush=True,
        )

    of_retraining(asked.studies // 2)
    if asked.shared:
        of_detections(asked.shared, asked.studies)


def weights_of(images: int) -> Floats:
    drawn = draws(images, RESAMPLES, 0, room=images)
    drawn[:, 1 + RESAMPLES :] = left_out(images, images, 0)
    return drawn.astype(float)


def not_normal(studies: int) -> None:
    print(
        "checkpoints  images  images' parts        s of them  left out  no interval  differ < 0.05"
    )
    cells = [("normal", 0.0), ("normal", 0.03), ("heavy tails", 0.03)]
    cells += [("one in five falls behind", 0.03)]
    for checkpoints in (2, 3, 5):
        for images in (8, 20, 100):
            weights = weights_of(images)
            for kind in PARTS:
                for of_checkpoints, own in cells:
                    if (kind, of_checkpoints) == ("normal", "normal"):
                        continue
                    if checkpoints == 2 and own:
                        continue  # two have no interval, and these do differ
                    generator = np.random.Generator(np.random.Philox([checkpoints, images, 1]))
                    out = none = differ = 0
                    for _ in range(studies):
                        found = study(
                            generator, weights, checkpoints, own, "half", kind, of_checkpoints
                        )
                        one = replicates.replicated([[NOTHING] * checkpoints], [found])[0]
                        differ += one.differs
                        if one.low is None or one.high is None:
                            none += 1
                        else:
                            out += not one.low <= 0 <= one.high
                    missed = f"{out / studies:8.1%}  {none / studies:11.1%}"
                    told = missed if checkpoints > 2 else f"{'-':>8}  {'-':>11}"
                    apart = "-" if own else f"{differ / studies:.1%}"
                    print(
                        f"{checkpoints:11}  {images:6}  {kind:19}  {own:9.2f}  {told}  "
                        f"{apart:>13}  checkpoints: {of_checkpoints}",
                        flush=True,
                    )


def of_retraining(studies: int) -> None:
    print(
        "seeds  seeds' parts              of these images  left out  no interval  any differs"
        "  on others"
    )
    weights = weights_of(SEEDS_SEE)
    for seeds in (2, 3, 5):
        for kind, deviates in OWN.items():
            for of_images in (0.0, 1.0) if kind == "normal" and seeds > 2 else (0.0,):
                generator = np.random.Generator(np.random.Philox([seeds, 3]))
                out = none = any_differs = on_others = 0
                for _ in range(studies):
                    runs = deviates(generator, (1 + ARMS, seeds))
                    images = generator.normal(0, of_images * SEEDS_SEE**0.5, (ARMS, SEEDS_SEE))
                    if kind == "normal" and seeds > 2:
                        on_others += _any_on_others(runs, images, weights)
                    runs[1:] += images.mean(axis=1, keepdims=True)
                    found = [Difference.of(one, runs[0]) for one in runs[1:]]
                    known = [one for one in found if one.half is not None]
                    none += ARMS - len(known)
                    out += sum(abs(one.mean) > (one.half or 0.0) for one in known)
                    adjusted = holm([one.p for one in found])
                    any_differs += any(p is not None and p < 0.05 for p in adjusted)
                shares = f"{out / studies / ARMS:8.1%}  {none / studies / ARMS:11.1%}"
                print(
                    f"{seeds:5}  {kind:24}  {of_images:15.1f}  {shares}  "
                    f"{any_differs / studies:11.1%}  {on_others / studies:9.1%}",
                    flush=True,
                )


def _any_on_others(runs: Floats, images: Floats, weights: Floats) -> bool:
    """Whether any arm differs by both chances; ``images``: of each arm what they say of it."""
    before = [sampled(np.full(SEEDS_SEE, one), weights) for one in runs[0]]
    tests = []
    for own, said in zip(runs[1:], images, strict=True):
        after = [sampled(said + one, weights) for one in own]
        tests.append(combined(list(zip(before, after, strict=True))).p)
    return any(p is not None and p < 0.05 for p in holm(tests))


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
