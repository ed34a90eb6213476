"""How often any star of a study is false, by the whole test; no detector, no AP.

    python benchmarks/simulated_stars.py [--studies 10000] [--images 206]

Studies of 24 variants on so many images, each change the mean of what the images say: bootstrap,
jackknife, Student's t, adjustment. Every image's part is drawn, from several distributions of mean
0, so that any star is false; how many losses and gains of 4.2 standard errors get one is told
beside it, and the same of Holm's adjustment.

Then what is said of the costliest of 3 and 24 cuts that cost the same in truth, by ten standard
errors (chance of its own, or half of it in common): how often its interval holds the truth, and by
how much its cost is too high; how often one is said to cost most, by the tests against each other
one, all of which have to say so; and where one of 2 or 8 classes loses it all, how often it is said
of another class that it changes: with stars adjusted over the classes, and over the cuts as well.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from simulated_studies import SEEN, VARIANTS

from ablate_kit.metrics.uncertainty.bootstrap import RESAMPLES, Sampled, draws, left_out
from ablate_kit.metrics.uncertainty.chance import PairedTest, paired_test
from ablate_kit.metrics.uncertainty.multiplicity import holm, max_t


def _normal(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return rng.normal(0, 1, size)


def _together(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return np.sqrt(0.5) * (rng.normal(0, 1, size[1]) + rng.normal(0, 1, size))


def _heavy(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return rng.standard_t(3, size)


def _few(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return np.where(rng.random(size) < 5 / size[1], rng.standard_t(3, size), 0.0)


def _exponential(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return 1 - rng.exponential(1, size)


def _losses(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    lost = rng.random(size) < 0.05
    return np.where(lost, -1.0, 0.05 / 0.95) * rng.exponential(1, size)


def _half(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return 0.5 - rng.exponential(1, size) * (rng.random(size) < 0.5)


IMAGES_SAY = {
    "normal": _normal,
    "normal, half of it shared by all variants": _together,
    "heavy tails (Student's t, 3 degrees of freedom)": _heavy,
    "five images change, the others do not": _few,
    "some lose much (exponential)": _exponential,
    "one image in twenty loses much, the others gain little": _losses,
    "half of the images lose (exponential), the others do not change": _half,
}


def simulate(studies: int, images: int) -> None:
    """Chance of any false star among 24 variants, none of which changes anything; and of a star."""
    resamples, changed, power = RESAMPLES, 2, 1000
    left = left_out(images, min(images, 200), 0).astype(float)
    for number, (what, say) in enumerate(IMAGES_SAY.items()):
        rng = np.random.default_rng([1, number])
        false = {"now": 0, "Holm": 0}
        right = {sign: dict(false) for sign in (-1, 1)}
        for study in range(studies):
            if study % 100 == 0:
                drawn = draws(images, resamples, study)[:, 1:].astype(float)
            said = say(rng, (VARIANTS, images))
            for found in _starred(said, drawn, left):
                false[found[0]] += any(found[1])
            shift = 4.2 * said[:changed].std(axis=1, keepdims=True) / np.sqrt(images)
            for sign, stars in right.items() if study < power else ():
                moved = np.concatenate([said[:changed] + sign * shift, said[changed:]])
                for found in _starred(moved, drawn, left):
                    stars[found[0]] += sum(found[1][:changed])
        share = 100 / changed / min(power, studies)
        rates = "  ".join(
            f"{one} {100 * false[one] / studies:4.2f} % (power: of losses "
            f"{share * right[-1][one]:.0f} %, of gains {share * right[1][one]:.0f} %)"
            for one in false
        )
        print(f"family: any false star of {VARIANTS}; images' parts: {what}: {rates} "
              f"({studies:,} studies)", flush=True)  # fmt: skip


def _starred(
    said: np.ndarray, drawn: np.ndarray, left: np.ndarray
) -> Iterator[tuple[str, list[bool]]]:
    """Which variants have a star, by adjustment; ``said``: (variants, images) of their changes."""
    images = said.shape[1]
    resampled, rest = said @ drawn / images, (said @ left) / left.sum(axis=0)
    found = [
        paired_test(Sampled(float(value), one, other, images, False))
        for value, one, other in zip(said.mean(axis=1), resampled, rest, strict=True)
    ]
    known = [one for one in found if one is not None]
    for name, adjusted in (("now", max_t(known)), ("Holm", holm([one.p for one in known]))):
        values = iter(adjusted)
        yield name, [one is not None and (next(values) or 0) < 0.05 for one in found]


def of_costliest(studies: int, images: int) -> None:
    left = left_out(images, min(images, 200), 0).astype(float)
    for cuts in (3, 24):
        for what in ("normal", "normal, half of it shared by all variants"):
            rng = np.random.default_rng([2, cuts, len(what)])
            most = held = 0
            off = 0.0
            named = {(classes, over): 0 for classes in (2, 8) for over in ("classes", "cuts, too")}
            for study in range(studies):
                if study % 100 == 0:
                    drawn = draws(images, 500, study)[:, 1:].astype(float)
                said = IMAGES_SAY[what](rng, (cuts, images)) - 10 / np.sqrt(images)
                costliest = int(said.mean(axis=1).argmin())
                others = [one for one in range(cuts) if one != costliest]
                (own,) = _tests(said[[costliest]], drawn, left)
                low, high = own.interval()
                held += low <= -10 / np.sqrt(images) <= high
                off -= said[costliest].mean() * np.sqrt(images) + 10
                against = _tests(said[others] - said[costliest], drawn, left)
                most += max(one.p for one in against) < 0.05
                for classes in (2, 8):
                    of_class = rng.normal(0, 1, (cuts, classes, images))
                    costliest = int(of_class.mean(axis=(1, 2)).argmin())
                    p = max_t(_tests(of_class[costliest, 1:], drawn, left))
                    named[classes, "classes"] += min(p) < 0.05
                    named[classes, "cuts, too"] += min(p) * cuts < 0.05
            told = "; ".join(
                f"of {classes} classes another is named, adjusted over {over}: "
                f"{100 * count / studies:.1f} %"
                for (classes, over), count in named.items()
            )
            print(f"the costliest of {cuts}, {what}: its interval holds the truth "
                  f"{100 * held / studies:.0f} %, too high by {off / studies:.1f} standard errors; "
                  f"said to cost most {100 * most / studies:.1f} %; {told} ({studies:,} studies)",
                  flush=True)  # fmt: skip


def _tests(said: np.ndarray, drawn: np.ndarray, left: np.ndarray) -> list[PairedTest]:
    images = said.shape[1]
    resampled, rest = said @ drawn / images, (said @ left) / left.sum(axis=0)
    found = (
        paired_test(Sampled(float(value), one, other, images, False))
        for value, one, other in zip(said.mean(axis=1), resampled, rest, strict=True)
    )
    return [one for one in found if one is not None]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=SEEN)
    asked = parser.parse_args()
    simulate(asked.studies, asked.images)
    of_costliest(asked.studies // 5, asked.images)
