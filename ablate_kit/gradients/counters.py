"""What is kept of the measurements of all steps: counts, sums and extremes per tensor."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ablate_kit.gradients.thresholds import GradientThresholds

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

NEVER = -1  # in place of a step's number


@dataclass(frozen=True)
class Steps:
    """Measurements of L optimizer steps of T tensors, each (L, T)."""

    first: int  # number of the first of these steps, from 1
    present: Flags  # has a gradient
    grad_norm: Floats
    grad_mean: Floats
    grad_std: Floats
    grad_max: Floats
    grad_nonzero: Floats  # share of elements
    update_norm: Floats
    update_max: Floats
    moved: Floats  # share of elements
    weight_norm: Floats  # after the step
    rate: Floats  # learning rate


class Counters:
    """Streaming statistics of T tensors; its size does not depend on the number of steps."""

    def __init__(self, tensors: int, sizes: Floats, limits: GradientThresholds) -> None:
        def zeros() -> Floats:
            return np.zeros(tensors)

        self.limits = limits
        self.sizes = sizes
        self.steps = 0
        # Numbers of steps: with a gradient; where it is finite; where it is finite and not zero;
        # where it is not finite; where the weights are not finite after it.
        self.present, self.finite, self.nonzero = zeros(), zeros(), zeros()
        self.bad_gradient, self.bad_weights = zeros(), zeros()
        # Of those with a finite gradient that is not zero: norm below, below or above its limits.
        self.vanishing, self.low, self.high = zeros(), zeros(), zeros()
        # Of all: changed by more than the limits. Of those with a finite gradient that is not
        # zero: not changed so, and not changed in any bit.
        self.updates, self.stuck, self.unmoved = zeros(), zeros(), zeros()
        self.first_bad = np.full(tensors, NEVER)
        self.last_nonzero = np.full(tensors, NEVER)
        self.norm_min, self.norm_max = np.full(tensors, np.inf), zeros()
        self.largest = zeros()  # |element of the gradient|
        self.highest_rate = zeros()
        self._sums = {
            name: zeros()
            for name in ("norm", "rms", "mean", "std", "zero", "ratio", "update", "lost", "shown")
        }

    def add(self, steps: Steps) -> None:
        limits = self.limits
        here = steps.present
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            finite = here & np.isfinite(steps.grad_max) & np.isfinite(steps.grad_norm)
            nonzero = finite & (steps.grad_max > 0)
            sound = np.isfinite(steps.weight_norm) & np.isfinite(steps.update_norm)
            # Of a tensor that was all zero, the step is measured against where it led.
            ratio = np.where(sound, steps.update_norm / steps.weight_norm, 0.0)
            ratio = np.nan_to_num(ratio, nan=0.0, posinf=0.0)
            changed = sound & ((steps.update_max > limits.change) | (ratio > limits.ratio))
            lost = np.clip(1 - steps.moved / steps.grad_nonzero, 0, 1)
        bad = (here & ~finite) | ~sound
        length = len(here)
        numbers = steps.first + np.arange(length)[:, None]

        self.steps += length
        self.present += here.sum(0)
        self.finite += finite.sum(0)
        self.nonzero += nonzero.sum(0)
        self.bad_gradient += (here & ~finite).sum(0)
        self.bad_weights += (~sound).sum(0)
        self.vanishing += (nonzero & (steps.grad_norm < limits.vanishing)).sum(0)
        self.low += (nonzero & (steps.grad_norm < limits.low)).sum(0)
        self.high += (nonzero & (steps.grad_norm > limits.high)).sum(0)
        self.updates += changed.sum(0)
        self.stuck += (nonzero & sound & ~changed).sum(0)
        self.unmoved += (nonzero & sound & (steps.moved == 0)).sum(0)
        first_here = np.where(bad.any(0), numbers[bad.argmax(0), 0], NEVER)
        self.first_bad = np.where(self.first_bad == NEVER, first_here, self.first_bad)
        self.last_nonzero = np.maximum(self.last_nonzero, np.where(nonzero, numbers, NEVER).max(0))
        norm = np.where(finite, steps.grad_norm, np.nan)
        self.norm_min = np.fmin(self.norm_min, np.where(finite, norm, np.inf).min(0))
        self.norm_max = np.fmax(self.norm_max, np.where(finite, norm, 0.0).max(0))
        self.largest = np.fmax(self.largest, np.where(finite, steps.grad_max, 0.0).max(0))
        self.highest_rate = np.maximum(self.highest_rate, steps.rate.max(0))
        for name, values, where in (
            ("norm", steps.grad_norm, finite),
            ("rms", steps.grad_norm / np.sqrt(self.sizes), finite),
            ("mean", steps.grad_mean, finite),
            ("std", steps.grad_std, finite),
            ("zero", 1 - steps.grad_nonzero, finite),
            ("ratio", ratio, sound),
            ("update", steps.update_norm, sound),
            ("lost", lost, nonzero & sound),
            ("shown", np.ones_like(ratio), nonzero & sound),
        ):
            self._sums[name] += np.where(where, values, 0.0).sum(0)

    def mean(self, name: str) -> Floats:
        """(T,) mean over the steps that count for it, NaN where none does.

        ``norm``, ``rms``, ``mean``, ``std``, ``zero`` (share of elements) of finite gradients;
        ``update`` (norm) and ``ratio`` (of it to the weights' norm) of all finite steps; ``lost``
        (share of the elements with a gradient that did not move) of those with a gradient.
        """
        if name == "lost":
            count = self._sums["shown"]
        elif name in ("ratio", "update"):
            count = self.steps - self.bad_weights
        else:
            count = self.finite
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(count > 0, self._sums[name] / count, np.nan)
