"""How often any verdict of a study is wrong, and which share of variants is decided; no detector.

    python benchmarks/simulated_verdicts.py [--studies 10000]

Studies of 24 variants whose true changes are known: free of what is beyond the margin, costs or
gains of what is within, are wrong. A fifth of the studies tell the share that is decided with so
many images, and what comes of looking again with more images until there is a verdict; a tenth,
whether as many more images as an undecided variant is said to need decide it. Last, which parts a
study does not look into, as each by itself looks free: of those that cost more than the margin.
"""

import argparse
from collections.abc import Callable

import numpy as np
from simulated_studies import CHANCE, MARGIN, VARIANTS, is_wrong

from ablate_kit.metrics.uncertainty.chance import PairedTest
from ablate_kit.metrics.uncertainty.multiplicity import max_t
from ablate_kit.metrics.uncertainty.verdict import Verdict, verdicts
from ablate_kit.plural import roughly

TRUE = {
    "0, and a margin of 0.0001": (np.zeros(VARIANTS), 0.0001),
    "just within the margin": (np.full(VARIANTS, 1e-9 - MARGIN), MARGIN),
    "just beyond it": (np.full(VARIANTS, -1e-9 - MARGIN), MARGIN),
    "all around it": (np.linspace(-2 * MARGIN, 0, VARIANTS), MARGIN),
    "within +margin": (np.full(VARIANTS, MARGIN - 1e-9), MARGIN),
}
ALIKE = {
    "apart": np.zeros(VARIANTS),
    "together (0.9)": np.full(VARIANTS, np.sqrt(0.9)),
    "in two camps (±0.9)": np.repeat([1, -1], VARIANTS // 2) * np.sqrt(0.9),
}


def verdict_errors(studies: int) -> None:
    """Chance that any verdict of a study is wrong."""
    for what, (true, margin) in TRUE.items():
        rates = []
        for i, (alike, shared) in enumerate(ALIKE.items()):
            rng = np.random.default_rng([4, list(TRUE).index(what), i])
            wrong = sum(
                any(is_wrong(*one) for one in zip(found, true.tolist(), strict=True))
                for found in (_judged(rng, true, shared, 200, margin) for _ in range(studies))
            )
            rates.append(f"{alike} {100 * wrong / studies:4.1f} %")
        print(f"verdicts: any wrong of {VARIANTS}; true change {what}: {'  '.join(rates)} "
              f"({studies:,} studies)", flush=True)  # fmt: skip


def verdict_power(studies: int) -> None:
    """What share of the variants is decided, and rightly, by the number of images."""
    kinds = {"no change": 0.0, "half the margin": -MARGIN / 2, "twice the margin": -2 * MARGIN,
             "four times": -4 * MARGIN}  # fmt: skip
    true = np.repeat(list(kinds.values()), VARIANTS // len(kinds))
    shared = np.full(VARIANTS, np.sqrt(0.3))
    print(f"verdicts: share of {VARIANTS} variants decided at a margin of {MARGIN}, by true change")
    print(f"  {'images':>8}" + "".join(f"{kind:>18}" for kind in kinds) + f"{'any wrong':>12}")
    for images in (100, 200, 500, 1000, 2000, 5000):
        rng = np.random.default_rng([5, images])
        decided, wrong = np.zeros(VARIANTS), 0
        for _ in range(studies):
            found = _judged(rng, true, shared, images, MARGIN)
            bad = [is_wrong(*one) for one in zip(found, true.tolist(), strict=True)]
            right = [one.outcome != "undecided" for one in found]
            decided += np.array(right) & ~np.array(bad)
            wrong += any(bad)
        shares = decided.reshape(len(kinds), -1).mean(axis=1) / studies
        print(f"  {images:>8}" + "".join(f"{100 * one:>16.1f} %" for one in shares)
              + f"{100 * wrong / studies:>10.1f} %", flush=True)  # fmt: skip


def repeated_looks(studies: int) -> None:
    """Chance of any false star of no change, or of any wrong verdict, by one of several looks."""
    looks = [100 * 2**i for i in range(5)]
    shared = np.full(VARIANTS, np.sqrt(0.3))
    for number, true in enumerate((np.zeros(VARIANTS), TRUE["just within the margin"][0])):
        rng = np.random.default_rng([8, number])
        wrong = np.zeros((studies, len(looks)), dtype=bool)
        for study in range(studies):
            total, seen = np.zeros(VARIANTS), 0
            for i, images in enumerate(looks):
                chance = _chance(rng, shared)
                total += np.sqrt(images - seen) * chance[:, 0]
                chance[:, 0], seen = total / np.sqrt(images), images
                tests = _tests(true, chance, images)
                stars = max_t(tests)
                found = verdicts(tests, stars, images, MARGIN)
                wrong[study, i] = any(map(is_wrong, found, true)) or (
                    not true.any() and min(stars) < 0.05
                )
        share = 100 * np.maximum.accumulate(wrong, axis=1).mean(axis=0)
        told = "a wrong verdict, just within the margin" if true.any() else "a false star"
        print(f"looks: {told}, by the look at {looks} images: {share.round(1)} % "
              f"({studies:,} studies)", flush=True)  # fmt: skip


def predictions(studies: int) -> None:
    """Of the undecided, which share so many more images decide as each is said to need, and as the
    sentence says, which takes the largest number."""
    spread: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
        "none, or exponential of three margins": lambda rng: (
            -3 * MARGIN * rng.exponential(1, VARIANTS) * (rng.random(VARIANTS) < 0.5)
        ),
        "exponential of the margin": lambda rng: -MARGIN * rng.exponential(1, VARIANTS),
        "uniform, -4 margins to 1": lambda rng: rng.uniform(-4 * MARGIN, MARGIN, VARIANTS),
    }
    for number, (what, true_of) in enumerate(spread.items()):
        told = []
        for images in (100, 200, 500):
            rng = np.random.default_rng([13, number, images])
            own, together, every = [], [], []
            for _ in range(studies):
                study = _Growing(rng, true_of(rng), images)
                more = {i: one.more for i, one in enumerate(study.found) if one.more}
                own += [study.decided(rng, count)[i] for i, count in list(more.items())[:3]]
                if more:
                    after = study.decided(rng, roughly(max(more.values())))
                    together += [after[i] for i in more]
                    every.append(all(after[i] for i in more))
            told.append(f"{images}: {np.mean(own):.0%}, {np.mean(together):.0%} (all in "
                        f"{np.mean(every):.0%})")  # fmt: skip
        print(f"more images: decided by a row's own number and by the sentence's, true {what}; "
              f"after {'; '.join(told)} ({studies:,} studies)", flush=True)  # fmt: skip


def not_looked_into(studies: int) -> None:
    """Share of the parts that cost more than the margin, and of studies of 24 such parts, where one
    looks free by a verdict of its own, so that nothing inside of it is cut."""
    shared = np.full(VARIANTS, np.sqrt(0.3))
    for images in (100, 500, 2000):
        told = []
        for factor in (1.0, 1.25, 1.5, 2.0):
            rng = np.random.default_rng([14, images, int(100 * factor)])
            true = np.full(VARIANTS, -factor * MARGIN - 1e-9)
            free = np.zeros((studies, VARIANTS), dtype=bool)
            for study in range(studies):
                for i, test in enumerate(_tests(true, _chance(rng, shared), images)):
                    (alone,) = verdicts([test], [test.p], images, MARGIN)
                    free[study, i] = alone.outcome == "free"
            told.append(f"{factor:g} margins: {100 * free.mean():.1f} % (any of {VARIANTS}: "
                        f"{100 * free.any(axis=1).mean():.1f} %)")  # fmt: skip
        print(f"not looked into on {images} images, of parts that cost {', '.join(told)} "
              f"({studies:,} studies)", flush=True)  # fmt: skip


class _Growing:
    """A study of some images, and what it comes to with more."""

    def __init__(self, rng: np.random.Generator, true: np.ndarray, images: int) -> None:
        self._true, self._images = true, images
        self._chance = _chance(rng, _SHARED)
        self._seen = true + CHANCE / np.sqrt(images) * self._chance[:, 0]
        self.found = self._judged(self._seen, images)

    def decided(self, rng: np.random.Generator, more: int) -> list[bool]:
        further = self._true + CHANCE / np.sqrt(more) * _chance(rng, _SHARED)[:, 0]
        total = self._images + more
        change = (self._images * self._seen + more * further) / total
        return [one.outcome != "undecided" for one in self._judged(change, total)]

    def _judged(self, change: np.ndarray, images: int) -> list[Verdict]:
        chance = np.column_stack([np.zeros(VARIANTS), self._chance[:, 1:]])
        tests = _tests(change, chance, images)
        return verdicts(tests, max_t(tests), images, MARGIN)


_SHARED = np.full(VARIANTS, np.sqrt(0.3))


def _judged(
    rng: np.random.Generator, true: np.ndarray, shared: np.ndarray, images: int, margin: float
) -> list[Verdict]:
    """The verdicts of one study."""
    tests = _tests(true, _chance(rng, shared), images)
    return verdicts(tests, max_t(tests), images, margin)


def _chance(rng: np.random.Generator, shared: np.ndarray) -> np.ndarray:
    """(variants, 1 + resamples) normal, a part of it common to all: what is seen, and resamples."""
    own = rng.normal(0, 1, (len(shared), 1001))
    return shared[:, None] * rng.normal(0, 1, 1001) + np.sqrt(1 - shared**2)[:, None] * own


def _tests(true: np.ndarray, chance: np.ndarray, images: int) -> list[PairedTest]:
    error = CHANCE / np.sqrt(images)
    return [
        PairedTest(float(value + error * one[0]), error, images - 1.0, one[1:])
        for value, one in zip(true, chance, strict=True)
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=10_000)
    studies = parser.parse_args().studies
    verdict_errors(studies)
    verdict_power(studies // 5)
    repeated_looks(studies // 5)
    predictions(studies // 10)
    not_looked_into(studies // 10)
