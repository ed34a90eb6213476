"""How often the interval of a mean over a few draws is wrong (``metrics.uncertainty.repeats``).

    python benchmarks/simulated_draws.py [--studies 4000]

*Repeats.* A cut is drawn a few times, on 60 images; a draw's own part in the change deviates by
0.3, 1 or 3 times what the images' mean does. Told is the share of 95 % intervals that leave out the
truth, and of p-values below 0.002, as one row of 24 needs it.

*Shapley values*, of 8 and 24 parts whose costs depend on what is cut already: they add up; two
stand in for each other; all is lost with the first, third or fifth part that goes, whichever it is,
and so on. The images' parts deviate by half of the whole cost. Orders are the product's own; beside
them orders drawn each by itself, with their reverses as well. Told of each number of orders are the
share of intervals that leave out the truth, of values without an interval, and the deviation that
is of the orders alone.
"""

import argparse
from collections.abc import Callable

import numpy as np

from ablate_kit.ablations.kinds.shapley import permutations
from ablate_kit.metrics.uncertainty.bootstrap import Floats, Sampled, draws, left_out
from ablate_kit.metrics.uncertainty.repeats import combined

IMAGES, RESAMPLES = 60, 200


def weights() -> Floats:
    """(images, samples) that add up to 1."""
    drawn = draws(IMAGES, RESAMPLES, 0, room=IMAGES).astype(float)
    drawn[:, 1 + RESAMPLES :] = left_out(IMAGES, IMAGES, 0)
    return drawn / drawn.sum(axis=0)


def sampled(parts: Floats, drawn: Floats) -> Sampled:
    means = parts @ drawn
    end = 1 + RESAMPLES
    return Sampled(float(means[0]), means[1:end], means[end:], IMAGES, ratio=True)


def repeats(studies: int) -> None:
    drawn, nothing = weights(), sampled(np.zeros(IMAGES), weights())
    for count in (2, 3, 4, 8):
        told = []
        for ratio in (0.3, 1.0, 3.0):
            rng = np.random.default_rng([1, count, int(10 * ratio)])
            p = []
            for _ in range(studies):
                shared = rng.normal(0, 1, IMAGES)
                own = rng.normal(0, ratio * (count / IMAGES) ** 0.5, count)
                p.append(combined([(nothing, sampled(shared + one, drawn)) for one in own]).p)
            known = np.array(p, dtype=float)
            often, rarely = (100 * (known < level).mean() for level in (0.05, 0.002))
            told.append(f"{ratio:g}: {often:.1f} % ({rarely:.2f} %)")
        print(f"{count} draws, by their part of the error beside the images': {', '.join(told)}",
              flush=True)  # fmt: skip


Game = Callable[[frozenset[int]], float]
# What is lost without some parts, and the value of part 0; None: that of any other.
GAMES: dict[str, tuple[Game, float | None]] = {
    "costs add up": (len, 1.0),
    "two stand in for each other": (lambda cut: float({0, 1} <= cut), 1 / 2),
    "three stand in for each other": (lambda cut: float({0, 1, 2} <= cut), 1 / 3),
    "two of three are enough": (lambda cut: float(len({0, 1, 2} & cut) >= 2), 1 / 3),
    "one that needs one of two": (lambda cut: float(0 in cut and bool({1, 2} & cut)), 2 / 3),
    "all is lost with the first": (lambda cut: min(1.0, len(cut)), None),
    "with the third": (lambda cut: float(len(cut) >= 3), None),
    "with the fifth": (lambda cut: float(len(cut) >= 5), None),
    "first two, then little by little": (lambda cut: min(1.0, 0.35 * len(cut)), None),
    "each costs less than the one before": (lambda cut: len(cut) ** 0.5, None),
}


def by_lot(parts: int, count: int, seed: int) -> list[list[int]]:
    """Orders in pairs with their reverses, each pair drawn by itself."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(parts).tolist() for _ in range(count // 2)]
    return [order for one in drawn for order in (one, one[::-1])]


def shapley(studies: int, parts: int) -> None:
    drawn = weights()
    for what, (game, value) in GAMES.items():
        whole = game(frozenset(range(parts)))
        true = 1 / parts if value is None else value / whole
        for how, orders in (("ours", permutations), ("by lot", by_lot)):
            told = []
            for count in (8, 16, 32):
                rng = np.random.default_rng([2, count])
                wrong = alike = 0
                off = []
                for study in range(studies):
                    image = 1 + rng.normal(0, 0.5, IMAGES)  # what an image makes of the whole cost
                    steps = np.array([_step(game, one) for one in orders(parts, count, study)])
                    ends = steps.reshape(-1, 2, 2).mean(axis=1) / whole  # of an order, its reverse
                    pairs = [
                        (sampled(image * before, drawn), sampled(image * after, drawn))
                        for before, after in ends.tolist()
                    ]
                    found = combined(pairs)
                    off.append(np.diff(ends).mean() - true)
                    if found.low is None or found.high is None:
                        alike += 1
                    else:
                        wrong += not found.low <= true <= found.high
                told.append(f"{count}: {100 * wrong / studies:.1f} % "
                            f"({100 * alike / studies:.0f} %) {np.std(off):.3f}")  # fmt: skip
            print(f"{parts} parts, {what}, orders {how}: {', '.join(told)}", flush=True)


def _step(game: Game, order: list[int]) -> tuple[float, float]:
    """Before and after part 0 is cut."""
    place = order.index(0)
    return game(frozenset(order[:place])), game(frozenset(order[: place + 1]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=4000)
    studies = parser.parse_args().studies
    repeats(studies)
    for parts in (8, 24):
        shapley(studies // 4, parts)
