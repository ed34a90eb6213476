"""How gradients and updates went over the run, in a bounded number of spans."""

import numpy as np

from ablate_kit.gradients.counters import Floats, Steps

SPANS = 64  # at most; then neighbors are joined
EDGES = np.arange(-12.0, 1.25, 0.25)  # of the histogram, powers of ten
_SAME = 1e-4  # relative: what rounding leaves of a norm that gradients are clipped to


class Timeline:
    """The mean gradient norm per span of steps and tensor, and all update ratios in a histogram."""

    def __init__(self, tensors: int) -> None:
        self.length = 1  # steps per span
        self.sums: list[Floats] = []
        self.counts: list[Floats] = []
        self.filled = 0  # steps in the last span
        self.ratios = np.zeros(len(EDGES) - 1)
        self.tensors = tensors
        self.ceiling = 0.0  # the largest norm of all gradients of a step together
        self.at_ceiling = 0  # steps that have this norm, with gradients of their own
        self._before = np.zeros(tensors)

    def add(self, steps: Steps) -> None:
        good = steps.present & np.isfinite(steps.grad_norm)
        for norm, here in zip(steps.grad_norm, good, strict=True):
            if not self.sums or self.filled == self.length:
                if len(self.sums) == SPANS:
                    self._join()
                self.sums.append(np.zeros(self.tensors))
                self.counts.append(np.zeros(self.tensors))
                self.filled = 0
            self.sums[-1] += np.where(here, norm, 0.0)
            self.counts[-1] += here
            self.filled += 1
            self._look_for_ceiling(np.where(here, norm, 0.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.log10(steps.update_norm / steps.weight_norm)
        ratio = ratio[np.isfinite(ratio)]
        self.ratios += np.histogram(np.clip(ratio, EDGES[0], EDGES[-1]), EDGES)[0]

    def norms(self) -> Floats:
        """(spans, T) mean gradient norms, NaN where there was none."""
        if not self.sums:
            return np.full((0, self.tensors), np.nan)
        sums, counts = np.stack(self.sums), np.stack(self.counts)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(counts > 0, sums / counts, np.nan)

    def _look_for_ceiling(self, norms: Floats) -> None:
        total = float(np.linalg.norm(norms))
        same = np.allclose(norms, self._before, rtol=_SAME, atol=0)  # nothing new was computed
        self._before = norms
        if total > self.ceiling * (1 + _SAME):
            self.ceiling, self.at_ceiling = total, 1
        elif total >= self.ceiling * (1 - _SAME) and not same:
            self.at_ceiling += 1

    def _join(self) -> None:
        for values in (self.sums, self.counts):
            values[:] = [a + b for a, b in zip(values[::2], values[1::2], strict=True)]
        self.length *= 2
