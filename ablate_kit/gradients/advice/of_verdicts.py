"""What to do about tensors of one verdict, those with one cause in a sentence."""

from collections.abc import Callable, Iterator
from math import comb

from ablate_kit.gradients.advice.advice import HARMLESS
from ablate_kit.gradients.advice.words import Tensors, amount, by, called, does, few, norms, reason
from ablate_kit.gradients.diagnose import (
    NO_GRADIENT,
    NO_GROUP,
    NO_RATE,
    NO_STEP,
    ZERO_GRADIENT,
    TensorReport,
)
from ablate_kit.gradients.region import region

SLOW = 1e-5  # of the weights' norm per step
CHANCE = 0.01  # that what is said to have stopped has not
FAST = 1e-2  # of the weights' norm per step: above it, training tends to be unsteady


def _non_finite(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    first = min(tensors, key=lambda t: t.first_bad or 0)
    together = [t for t in tensors if t.first_bad == first.first_bad]
    of_them = f", {len(together)} of them first" if len(tensors) > 1 else ""
    biggest = max((t.grad_norm_max or 0.0 for t in tensors), default=0.0)
    yield (
        f"{amount(tensors)} became NaN or infinite{of_them}, at step {first.first_bad}: "
        f"{few(called(together))}. The largest finite gradient norm among them was {biggest:.1e}. "
        "Look there for a division, logarithm or square root near zero; lower the learning rate or "
        "clip gradients; in half precision use a gradient scaler.",
        tensors,
    )


def _no_update(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    for some in by(tensors, lambda t: t.why == NO_RATE):
        if some[0].why == NO_RATE:
            yield f"{does(some, 'have')} a learning rate of 0: {few(called(some))}.", some
            continue
        yield (
            f"{does(some, 'get')} a gradient without moving: {few(called(some))} "
            f"({reason(some)}). The step is smaller than the spacing of the weights' numbers, or "
            "the optimizer is not given them as they are used: raise their learning rate or keep "
            "the weights in float32.",
            some,
        )


def _never(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    causes = (
        (
            NO_GRADIENT,
            ("take", "no part in the loss"),
            "Their module is not called, its output reaches no loss, or a detach() or "
            "torch.no_grad() stands between them and it. Connect them, or freeze or remove them.",
        ),
        (
            ZERO_GRADIENT,
            ("get", "a gradient that is exactly zero"),
            "A factor of zero stands between them and the loss: a ReLU whose inputs are all "
            "negative, another saturated activation, a gate or projection that starts at zero. "
            "Start it off zero.",
        ),
        (
            NO_GROUP,
            ("have", "a gradient and no group of the optimizer"),
            "Add them to the optimizer, or freeze them.",
        ),
        (NO_STEP, ("never change", "by more than the limits"), "Raise their learning rate."),
    )
    for cause, (verb, means), try_this in causes:
        some = [t for t in tensors if t.why.startswith(cause)]
        if some:
            said = f"{does(some, verb)} {means}"
            yield f"{said} ({reason(some)}): {few(called(some))}. {try_this}", some


def _small(word: str) -> Callable[[Tensors], Iterator[tuple[str, Tensors]]]:
    def rule(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
        for some in by(tensors, lambda t: region(t.name, 1)):
            ratios = [t.update_ratio or 0.0 for t in some]
            share = min(getattr(t, word) for t in some)  # a mean may be that of a few large ones
            steps = "all steps" if share == 1 else f"at least {int(100 * share)}% of the steps"
            if any(t.nonzero < t.steps for t in some):
                steps += " with a gradient"
            then = (
                "Adam's steps do not depend on the gradient's size and still move them, least of "
                f"all by {min(ratios):.0e} of the norm a step, be it signal or noise."
                if min(ratios) > SLOW and some[0].adaptive
                else f"The smallest step is {min(ratios):.0e} of the weights' norm."
            )
            yield (
                f"The gradient of {amount(some)} of {region(some[0].name, 1)} is {word} in "
                f"{steps} (mean norm {norms(some)}): {few(called(some))}. "
                "Probable causes: a small factor (layer scale, gate, loss weight) or a saturated "
                "activation between them and the loss. "
                f"{then} Try a larger factor at the start, or a normalization before it.",
                some,
            )

    return rule


def _unchanged(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    moved = max(t.change_max or 0.0 for t in tensors)
    yield (
        f"{does(tensors, 'stay')} as at the start, to {moved:.0e}: "
        f"{few(called(tensors))}. Steps cancel or are tiny, at a learning rate of at most "
        f"{max(t.learning_rate for t in tensors):.1e}: raise it.",
        tensors,
    )


def _dead_rows(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    for kind, some in _kinds(tensors):
        names, rows = few(called(some)), _rows(some)
        if kind == "key":
            text = (
                f"The key third of {amount(some)} gets no more than rounding noise ({names}): a "
                "constant added to all keys leaves the softmax as it is. "
                f"{HARMLESS} by construction."
            )
        elif kind == "box":
            text = (
                f"The four box channels of each dense auxiliary head get no loss: {rows} of "
                f"{names} have no gradient in any step; the dense loss reads class scores only. "
                "Leave the channels out, or give them a box loss."
            )
        elif kind == "padding":
            text = (
                f"The last rows of {names} ({rows}) are padding to the width that the compiled "
                f"kernel wants, and are read by nothing. {HARMLESS} by construction."
            )
        elif kind == "entry":
            text = (
                f"In {amount(some, 'embedding')} some entries get no gradient in any of "
                f"{some[0].steps} steps ({rows}): {names}. No batch looked them up, or no loss "
                "reads what they are used for. A longer run, or more data, tells which."
            )
        else:
            text = (
                f"In {amount(some)} some output rows get no gradient in any of {some[0].steps} "
                f"steps ({rows}): {names}. Units that a ReLU holds at zero, outputs that no loss "
                "reads, or classes that did not occur. Lower the learning rate, use a leaky "
                "activation, or remove the rows."
            )
        yield text, some


def _below_ulp(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    lost = max(t.lost or 0.0 for t in tensors)
    yield (
        f"In {amount(tensors)} most elements with a gradient do not move in a step (up to "
        f"{lost:.0%}): {few(called(tensors))}. The step is below the rounding of the weights: keep "
        "the weights in float32, or raise the learning rate.",
        tensors,
    )


def _intermittent(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    for some in by(tensors, lambda t: (t.nonzero, t.last_nonzero)):
        one = some[0]
        then = (
            "The gradient stopped: was a branch switched off or frozen, or did its units die (a "
            "ReLU that no input passes), at a learning rate of "
            f"{max(t.learning_rate for t in some):.1e}?"
            if stopped(one.nonzero, one.last_nonzero or 0, one.steps)
            else "A conditional branch is taken too rarely to learn much."
        )
        yield (
            f"{amount(some)} had a gradient in only {one.nonzero} of {one.steps} steps, last at "
            f"step {one.last_nonzero}: {few(called(some))}. {then}",
            some,
        )


def stopped(nonzero: int, last: int, steps: int) -> bool:
    """Whether a gradient that was there in some steps has gone, and not by chance: were these dealt
    at random, the last of them would be no later in one of a hundred runs."""
    return comb(last, nonzero) < CHANCE * comb(steps, nonzero)


def _high(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    worst = max(tensors, key=lambda t: t.grad_norm_max or 0.0)
    fast = max(tensors, key=lambda t: t.update_ratio or 0.0)
    ratio = fast.update_ratio or 0.0
    then = (
        f"Its steps are {ratio:.0e} of the weights' norm in {fast.name}: lower its learning rate."
        if ratio > FAST
        else f"The largest steps are {ratio:.0e} of the weights' norm on average: no cause for "
        "alarm."
    )
    yield (
        f"The gradient norm of {amount(tensors)} is often above the limit: {few(called(tensors))}. "
        f"The largest is {worst.grad_norm_max:.1f}, in {worst.name}; a norm grows with the number "
        f"of elements, and there each of {worst.elements:,} has {worst.grad_rms:.1e} (RMS). Clip "
        f"the global norm. {then}",
        tensors,
    )


RULES: dict[str, Callable[[Tensors], Iterator[tuple[str, Tensors]]]] = {
    "non_finite": _non_finite,
    "no_update": _no_update,
    "never_updated": _never,
    "vanishing": _small("vanishing"),
    "unchanged": _unchanged,
    "dead_rows": _dead_rows,
    "low": _small("low"),
    "below_ulp": _below_ulp,
    "intermittent": _intermittent,
    "high": _high,
}


def _kinds(tensors: Tensors) -> Iterator[tuple[str, list[TensorReport]]]:
    for kind in ("box", "padding", "key", "entry", ""):
        some = [t for t in tensors if _kind(t) == kind]
        if some:
            yield kind, some


def _kind(tensor: TensorReport) -> str:
    gone = sorted((*tensor.dead_rows, *tensor.faint_rows))
    third = tensor.rows // 3
    if tensor.rows % 3 == 0 and gone == list(range(third, 2 * third)) and "bias" in tensor.name:
        return "key"
    last = gone == list(range(tensor.rows - len(gone), tensor.rows))
    if last and len(gone) == 4 and "dense_heads" in tensor.name:
        return "box"
    if last and "offset_mask" in tensor.name:
        return "padding"
    return "entry" if tensor.looked_up else ""


def _rows(tensors: Tensors) -> str:
    gone = {tuple(sorted((*t.dead_rows, *t.faint_rows))) for t in tensors}
    totals = {t.rows for t in tensors}
    if len(gone) == 1 and len(totals) == 1:
        (rows,), (total,) = gone, totals
        if len(rows) > 1 and rows == tuple(range(rows[0], rows[-1] + 1)):
            return f"rows {rows[0]} to {rows[-1]} of {total}"
        if len(rows) == 1:
            return f"row {rows[0]} of {total}"
    shares = [t.dead_share for t in tensors]
    low, high = f"{min(shares):.0%}", f"{max(shares):.0%}"
    share = low if low == high else f"{low} to {high}"
    count = sum(len(t.dead_rows) + len(t.faint_rows) for t in tensors)
    return f"{count} rows, {share} of each tensor"
