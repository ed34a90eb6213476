"""From measurements to one verdict per tensor, with every flag that is up."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ablate_kit.gradients.counters import NEVER, Floats
from ablate_kit.gradients.measured import Measured
from ablate_kit.text import finite

HEALTHY = "healthy"
UNSEEN = "not_measured"  # no step of it was, so that nothing is known
FROZEN = "frozen"

# In order of precedence: the first flag that is up is the verdict.
FLAGS: dict[str, str] = {
    "non_finite": "a gradient or weight was NaN or infinite",
    "no_update": "has a gradient, and the step leaves it as it is",
    "never_updated": "nothing was learned: no gradient, or exactly zero, or not in the optimizer",
    "vanishing": "gradient norm mostly below the vanishing limit",
    "unchanged": "after all steps where it was at the start",
    "dead_rows": "some output rows never get a gradient, others do",
    "low": "gradient norm mostly below the low limit",
    "below_ulp": "steps of most elements are lost in rounding",
    "intermittent": "no gradient in most steps",
    "high": "gradient norm often above the high limit",
}
VERDICTS = (*FLAGS, UNSEEN, HEALTHY, FROZEN)
CRITICAL = tuple(flag for flag in FLAGS if flag not in ("intermittent", "high"))
ENOUGH = 10  # steps with a gradient before "unchanged" says anything

# How reasons begin, by which they are told apart.
NO_GRADIENT = "no gradient in"
ZERO_GRADIENT = "its gradient is exactly zero"
NO_GROUP = "it is in no group"
NO_STEP = "no step of"
NO_RATE = "its learning rate is 0"


@dataclass(frozen=True)
class TensorReport:
    """One tensor; numbers are None where no step gave one."""

    name: str
    shape: tuple[int, ...]
    elements: int
    verdict: str
    flags: tuple[str, ...]
    why: str  # of the verdict; empty where healthy
    steps: int
    gradients: int  # steps with one
    nonzero: int  # steps with a finite one that is not all zero
    updates: int
    bad_steps: int  # steps with a NaN or infinite gradient or weight
    first_bad: int | None
    last_nonzero: int | None
    grad_norm: float | None  # mean over steps, as the next six
    grad_rms: float | None
    grad_mean: float | None
    grad_std: float | None
    grad_zero: float | None  # share of elements
    update_norm: float | None
    update_ratio: float | None  # of the update's to the weights' norm
    learning_rate: float  # the highest of all steps; 0 outside of the optimizer
    adaptive: bool  # steps do not grow with the gradient, as Adam's
    grad_norm_min: float | None
    grad_norm_max: float | None
    grad_max: float  # largest |element| ever
    lost: float | None  # share of elements with a gradient that did not move
    vanishing: float  # share of ``nonzero``, as the next two
    low: float
    high: float
    rows: int
    looked_up: bool  # rows are entries of an embedding
    dead_rows: tuple[int, ...]  # never a gradient but exactly zero
    faint_rows: tuple[int, ...]  # never more than rounding noise beside the other rows
    change_max: float | None  # since the start
    change_mean: float | None
    mean_start: float | None
    mean_now: float | None
    norm_start: float | None
    notebook: tuple[str, ...] = ()  # its categories, where they were asked for

    @property
    def dead_share(self) -> float:
        return (len(self.dead_rows) + len(self.faint_rows)) / max(self.rows, 1)


@dataclass(frozen=True)
class Diagnosis:
    tensors: tuple[TensorReport, ...]
    frozen: tuple[str, ...]
    measured: Measured

    @property
    def steps(self) -> int:
        return self.measured.counters.steps

    def counts(self) -> dict[str, int]:
        """Tensors per verdict, in order of precedence; those without any are left out."""
        found = Counter(tensor.verdict for tensor in self.tensors)
        found[FROZEN] += len(self.frozen)
        found[UNSEEN] += len(self.measured.thawed)
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}

    def of(self, verdict: str) -> list[TensorReport]:
        return [tensor for tensor in self.tensors if tensor.verdict == verdict]


def diagnose(measured: Measured) -> Diagnosis:
    """One report per measured tensor that was to learn, in the model's order.

    A tensor is healthy only if no flag is up, and nothing is told before a step was seen. Weight
    decay never counts as an update where it can be told apart (AdamW, plain SGD), and a tensor
    whose gradient is always zero counts as never updated whatever else moves it.
    """
    means = {name: measured.counters.mean(name) for name in _MEANS}
    names, trainable = measured.names, measured.trainable
    reports = tuple(_report(measured, means, i) for i in range(len(names)) if trainable[i])
    frozen = {name for name, learns in zip(names, trainable, strict=True) if not learns}
    frozen.update(measured.frozen)
    ordered = tuple(name for name in measured.elements if name in frozen)
    return Diagnosis(reports, ordered, measured)


def _report(measured: Measured, means: Mapping[str, Floats], i: int) -> TensorReport:
    counters, shape = measured.counters, measured.shapes[i]
    rows = measured.rows[i]
    largest = np.nanmax(rows) if np.isfinite(rows).any() else 0.0
    dead = np.flatnonzero(rows == 0)
    faint = np.flatnonzero((rows > 0) & (rows < measured.limits.faint * largest))
    if len(dead) == len(rows):  # a dead tensor, not one with dead rows
        dead = faint = np.empty(0, dtype=np.int64)
    dead = dead[dead != measured.entries.get(i)]  # what pads is not to learn
    changes = {name: finite(values[i]) for name, values in measured.changes.items()}
    mean = {name: finite(values[i]) for name, values in means.items()}
    nonzero = max(counters.nonzero[i], 1)
    facts = _Facts(measured, i, changes, mean, len(dead), len(faint), len(rows))
    flags = facts.flags()
    why = facts.why(flags[0]) if flags else ""
    return TensorReport(
        name=measured.names[i],
        shape=shape,
        elements=math.prod(shape),
        verdict=flags[0] if flags else HEALTHY if counters.steps else UNSEEN,
        flags=flags,
        why=why,
        steps=counters.steps,
        gradients=int(counters.present[i]),
        nonzero=int(counters.nonzero[i]),
        updates=int(counters.updates[i]),
        bad_steps=int(max(counters.bad_gradient[i], counters.bad_weights[i])),
        first_bad=_step(counters.first_bad[i]),
        last_nonzero=_step(counters.last_nonzero[i]),
        grad_norm=mean["norm"],
        grad_rms=mean["rms"],
        grad_mean=mean["mean"],
        grad_std=mean["std"],
        grad_zero=mean["zero"],
        update_norm=mean["update"],
        update_ratio=mean["ratio"],
        learning_rate=float(counters.highest_rate[i]),
        adaptive=measured.adaptive,
        grad_norm_min=finite(counters.norm_min[i]),
        grad_norm_max=float(counters.norm_max[i]) if counters.finite[i] else None,
        grad_max=float(counters.largest[i]),
        lost=mean["lost"],
        vanishing=float(counters.vanishing[i] / nonzero),
        low=float(counters.low[i] / nonzero),
        high=float(counters.high[i] / nonzero),
        rows=len(rows),
        looked_up=i in measured.entries,
        dead_rows=tuple(map(int, dead)),
        faint_rows=tuple(map(int, faint)),
        change_max=changes["change_max"],
        change_mean=changes["change_mean"],
        mean_start=changes["mean_start"],
        mean_now=changes["mean_now"],
        norm_start=changes["norm_start"],
        notebook=tuple(
            name for name, members in (measured.notebook or {}).items() if bool(members[i])
        ),
    )


_MEANS = ("norm", "rms", "mean", "std", "zero", "ratio", "update", "lost")


@dataclass(frozen=True)
class _Facts:
    """What is known of one tensor, as the rules of the flags want it."""

    measured: Measured
    i: int
    changes: dict[str, float | None]
    mean: dict[str, float | None]
    dead: int
    faint: int
    rows: int

    def flags(self) -> tuple[str, ...]:
        counters, limits, i = self.measured.counters, self.measured.limits, self.i
        if not counters.steps:
            return ()
        nonzero = counters.nonzero[i]
        moved, start = self.changes["change_max"], self.changes["largest_start"]
        learned = nonzero and counters.updates[i] and self.measured.in_optimizer[i]
        bad = counters.bad_gradient[i] + counters.bad_weights[i] > 0
        up = {
            "non_finite": bad,
            "no_update": nonzero > 0
            and self.measured.in_optimizer[i]
            and counters.stuck[i] > limits.no_update_share * nonzero,
            "never_updated": not bad and not learned,
            "vanishing": counters.vanishing[i] > limits.vanishing_share * nonzero,
            "unchanged": counters.present[i] > ENOUGH
            and moved is not None
            and moved <= limits.start
            and (not start or moved <= limits.start_ratio * start),
            "dead_rows": self.dead + self.faint > 0,
            "low": counters.low[i] > limits.low_share * nonzero,
            "below_ulp": (self.mean["lost"] or 0.0) > limits.lost_share,
            "intermittent": counters.steps - nonzero > limits.idle_share * counters.steps,
            "high": counters.high[i] > limits.high_share * nonzero,
        }
        return tuple(flag for flag in FLAGS if up[flag])

    def why(self, flag: str) -> str:
        """One clause with the numbers that the verdict rests on."""
        c, i, steps = self.measured.counters, self.i, self.measured.counters.steps
        if flag == "non_finite":
            what = "gradient" if c.bad_gradient[i] else "weights"
            bad = int(max(c.bad_gradient[i], c.bad_weights[i]))
            return f"{what} not finite in {bad} of {steps} steps, first at step {c.first_bad[i]}"
        if flag == "never_updated":
            return self._why_never()
        if flag == "no_update":
            if c.highest_rate[i] == 0:
                return NO_RATE
            return (
                f"unmoved in {int(c.stuck[i])} of {int(c.nonzero[i])} steps with a gradient "
                f"(in {int(c.unmoved[i])} not a bit changed; largest learning rate "
                f"{c.highest_rate[i]:.1e}, largest weight {self.changes['largest_start']:.1e})"
            )
        if flag in ("vanishing", "low", "high"):
            count = getattr(c, flag)[i]
            limit = getattr(self.measured.limits, flag)
            side = "above" if flag == "high" else "below"
            return (
                f"norm {side} {limit:g} in {int(count)} of {int(c.nonzero[i])} steps "
                f"(mean {self.mean['norm']:.1e}, RMS per element {self.mean['rms']:.1e}, "
                f"step {self.mean['ratio'] or 0:.1e} of the weights)"
            )
        if flag == "unchanged":
            return (
                f"largest change since the start {self.changes['change_max']:.1e}, largest "
                f"learning rate {c.highest_rate[i]:.1e}"
            )
        if flag == "dead_rows":
            noise = f", {self.faint} no more than rounding noise" if self.faint else ""
            return f"{self.dead} of {self.rows} rows exactly zero in all {steps} steps{noise}"
        if flag == "below_ulp":
            return (
                f"{self.mean['lost'] or 0:.0%} of the elements with a gradient do not move in a "
                f"step ({self.mean['ratio'] or 0:.1e} of the weights)"
            )
        return (
            f"a gradient in {int(c.nonzero[i])} of {steps} steps, last at step {c.last_nonzero[i]}"
        )

    def _why_never(self) -> str:
        c, i = self.measured.counters, self.i
        if not c.present[i]:
            return f"{NO_GRADIENT} any of {c.steps} steps"
        if not c.nonzero[i]:
            moved = self.changes["change_max"] or 0.0
            if moved and self.measured.decays[i]:
                by = f"; weight decay alone has moved it by up to {moved:.1e}"
            else:
                by = f"; it has moved by up to {moved:.1e}" if moved else ""
            return f"{ZERO_GRADIENT} in all {int(c.present[i])} steps{by}"
        if not self.measured.in_optimizer[i]:
            return f"{NO_GROUP} of the optimizer (gradient norm {self.mean['norm']:.1e})"
        return f"{NO_STEP} {c.steps} changed it by more than the limits"


def _step(value: float) -> int | None:
    return None if value == NEVER else int(value)
