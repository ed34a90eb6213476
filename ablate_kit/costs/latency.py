"""How long passes of several models take, side by side.

A machine grows warm, and others use it meanwhile: times that were taken one model after the other
differ by that as much as by the model. So the models take turns, in an order that is drawn anew
each round, and a ratio is of times of one round.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class TimingRounds:
    """How long to measure: until ``most`` rounds or ``seconds`` have gone, but ``least`` rounds.

    ``warm_up`` passes of each model come before, which are not timed.
    """

    least: int = 10
    most: int = 50
    seconds: float = 15.0
    warm_up: int = 3


USUAL = TimingRounds()


@dataclass(frozen=True)
class Ratio:
    """Of the latency of a model to another's: the median over rounds, and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Latency:
    """Of one model beside others."""

    seconds: tuple[float, ...]  # by round
    # Share of all rounds' time in which no thread of this process ran: on a CPU others had it.
    idle: float = 0.0

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def p95(self) -> float:
        """The 95th percentile."""
        return float(np.percentile(self.seconds, 95))

    def against(self, first: "Latency") -> Ratio:
        """As a multiple of the latency of another model of the same rounds."""
        ratios = np.array(self.seconds) / np.array(first.seconds)
        generator = np.random.Generator(np.random.Philox(0))
        drawn = generator.integers(0, len(ratios), (RESAMPLES, len(ratios)))
        low, high = np.percentile(np.median(ratios[drawn], axis=1), (2.5, 97.5))
        return Ratio(float(np.median(ratios)), float(low), float(high))


def take_turns(
    runs: Sequence[Callable[[], Any]],
    rounds: TimingRounds,
    wait: Callable[[], Any] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    cpu: Callable[[], float] = time.process_time,
) -> list[Latency]:
    """The latency of each, all of them run once a round.

    Args:
        wait: for the device to have done what it was given.
        cpu: the time that this process has run, on all cores.
    """
    generator = np.random.Generator(np.random.Philox(1))
    for _ in range(rounds.warm_up):
        for run in runs:
            run()
    wait()
    taken: list[list[float]] = [[] for _ in runs]
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # as timeit does: whose garbage it is that is collected is chance
    try:
        began, ran = clock(), cpu()
        while len(taken[0]) < rounds.most and (
            len(taken[0]) < rounds.least or clock() - began < rounds.seconds
        ):
            for i in generator.permutation(len(runs)):
                start = clock()
                runs[i]()
                wait()
                taken[i].append(clock() - start)
        whole, own = clock() - began, cpu() - ran
    finally:
        if collecting:
            gc.enable()
    idle = max(0.0, 1 - own / whole) if whole > 0 else 0.0
    return [Latency(tuple(one), idle) for one in taken]
