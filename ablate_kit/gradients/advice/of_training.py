"""How the run was set up: its steps, learning rates, loss terms, and what is frozen."""

from collections.abc import Iterator
from statistics import median

from ablate_kit.gradients.advice.advice import Advice
from ablate_kit.gradients.advice.of_verdicts import SLOW
from ablate_kit.gradients.advice.words import by, called, does, few, whole_modules
from ablate_kit.gradients.attribution import Attribution
from ablate_kit.gradients.diagnose import FROZEN, HEALTHY, UNSEEN, Diagnosis
from ablate_kit.plural import counted

_LEARNING = (HEALTHY, "dead_rows", "intermittent", "high")
_CLIPPED = 3  # steps of one norm, which are no chance


def of_steps(diagnosis: Diagnosis) -> Iterator[Advice]:
    skipped = diagnosis.measured.skipped
    if not diagnosis.steps:
        why = f": the gradient scaler took all {skipped} back" if skipped else ""
        yield Advice(
            "run",
            f"No optimizer step was measured{why}. Steps of another optimizer than the monitor was "
            "given are not seen. If a gradient scaler skips every step, a gradient overflows or is "
            "NaN; lower the loss scale, or look at the first backward pass with "
            "torch.autograd.detect_anomaly().",
            (),
        )
    elif skipped:
        yield Advice(
            "run", f"The gradient scaler skipped {counted(skipped, 'step')}, not counted here.", ()
        )


def of_clipping(diagnosis: Diagnosis) -> Iterator[Advice]:
    """What norms mean where a loop clips them, as transformers' Trainer does unless it is told."""
    measured, steps = diagnosis.measured, diagnosis.steps
    ceiling, count = measured.timeline.ceiling, measured.timeline.at_ceiling
    if measured.clipped and count >= _CLIPPED and count >= steps / 10:
        yield Advice(
            "run",
            f"In {count} of {counted(steps, 'step')} all gradients together have a norm of "
            f"{ceiling:.4g}: the loop clips them before they are read. What is low or vanishing "
            "here may be so by that alone. To read them before: monitor.observe() before clipping, "
            "or max_grad_norm=0 for transformers' Trainer.",
            (),
        )


def of_rates(diagnosis: Diagnosis) -> Iterator[Advice]:
    """What learns, and hardly: a learning rate that is too low has no flag of its own."""
    learning = [t for t in diagnosis.tensors if t.verdict in _LEARNING and t.update_ratio]
    highest = max((t.learning_rate for t in learning), default=0.0)
    for some in by(learning, lambda t: t.learning_rate):
        ratio = median(t.update_ratio or 0.0 for t in some)
        rate = some[0].learning_rate
        if ratio >= SLOW or not rate:
            continue
        others = f" (the highest of the others: {highest:.1e})" if rate < highest else ""
        yield Advice(
            "learning rate",
            f"{does(some, 'hardly learn')}: the median of the steps is {ratio:.0e} of the "
            f"weights' norm, where 1e-04 to 1e-02 is usual, at a learning rate of {rate:.1e}"
            f"{others}: {few(called(some))}. Raise it, unless that is meant.",
            called(some),
        )


def of_thawed(diagnosis: Diagnosis) -> Iterator[Advice]:
    thawed, elements = diagnosis.measured.thawed, diagnosis.measured.elements
    if not thawed:
        return
    count, were = ("1 tensor", "was") if len(thawed) == 1 else (f"{len(thawed)} tensors", "were")
    yield Advice(
        UNSEEN,
        f"{count} {were} frozen when the monitor was made, and trained later: "
        f"{few(whole_modules({*thawed}, elements))}. Nothing is known of them. Give the optimizer "
        "all parameters from the start, or make another monitor where they are thawed.",
        thawed,
    )


def of_frozen(diagnosis: Diagnosis) -> Iterator[Advice]:
    """Perhaps nobody meant it; by whole modules, for a backbone is some hundred tensors."""
    frozen, elements = {*diagnosis.frozen}, diagnosis.measured.elements
    if not frozen:
        return
    share = sum(elements[name] for name in frozen) / sum(elements.values())
    count = "1 tensor is" if len(frozen) == 1 else f"{len(frozen)} tensors are"
    yield Advice(
        FROZEN,
        f"{count} frozen (requires_grad is off), {share:.0%} of the elements: "
        f"{few(whole_modules(frozen, elements))}. Nothing of that is learned.",
        diagnosis.frozen,
    )


def of_terms(attribution: Attribution) -> Iterator[Advice]:
    for term, tensors in attribution.sole().items():
        names = [name for name, _ in tensors]
        least = min(share for _, share in tensors)
        share = "all" if least == 1 else f"{int(1000 * least) / 10:g}% or more"
        only = "only" if least == 1 else "almost only"
        these, their, they = f"these {len(names)} tensors learn", "their", "they stay as they are"
        if len(names) == 1:
            these, their, they = "this tensor learns", "its", "it stays as it is"
        largest = float(attribution.norms[attribution.terms.index(term)].max())
        yield Advice(
            "loss terms",
            f"{few(names)}: {these} {only} through the loss term {term!r} "
            f"({share} of {their} gradient at step {attribution.step}; the term's largest norm is "
            f"{largest:.1e}). Without that term, or with a small factor before it, {they}.",
            tuple(names),
        )
