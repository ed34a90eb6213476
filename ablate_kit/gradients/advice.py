"""What a finding probably means and what to try, in plain sentences with their numbers."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from ablate_kit.gradients.attribution import Attribution
from ablate_kit.gradients.diagnose import (
    FROZEN,
    HEALTHY,
    NO_GRADIENT,
    NO_GROUP,
    NO_RATE,
    NO_STEP,
    UNSEEN,
    ZERO_GRADIENT,
    Diagnosis,
    TensorReport,
)
from ablate_kit.gradients.parameter_names import region
from ablate_kit.plural import counted, first_few

Tensors = Sequence[TensorReport]

_LEARNING = (HEALTHY, "dead_rows", "intermittent", "high")
_HARMLESS = "Harmless"
_NOISE = 1e-4  # of the RMS of a weight's gradient: sums in float32 cancel to 1e-5 of it and less
SLOW = 1e-5  # of the weights' norm per step
FAST = 1e-2  # of the weights' norm per step: above it, training tends to be unsteady


@dataclass(frozen=True)
class Advice:
    verdict: str  # that it is about, or "loss terms", "run"
    sentence: str
    tensors: tuple[str, ...]

    @property
    def harmless(self) -> bool:
        """Whether it says of its tensors that nothing is wrong with them."""
        return _HARMLESS in self.sentence


def advise(diagnosis: Diagnosis, attribution: Attribution | None = None) -> list[Advice]:
    """Advice in order of precedence of the verdicts; tensors with one cause share a sentence."""
    found = [*_of_the_run(diagnosis), *_constants(diagnosis)]
    harmless = {name for one in found for name in one.tensors}
    for verdict, rule in _RULES.items():
        tensors = [t for t in diagnosis.of(verdict) if t.name not in harmless]
        if tensors:
            found += [Advice(verdict, text, _names(some)) for text, some in rule(tensors)]
    if attribution is not None:
        found += _of_terms(attribution)
    return [*found, *_slow(diagnosis), *_thawed(diagnosis), *_frozen(diagnosis)]


def few(names: Sequence[str]) -> str:
    """``a, b, c and 5 more``; numbered names of one pattern are joined: ``layers.{0,1}.bias``."""
    return first_few(_joined(names), 3)


def _of_the_run(diagnosis: Diagnosis) -> Iterator[Advice]:
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


def _non_finite(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    first = min(tensors, key=lambda t: t.first_bad or 0)
    together = [t for t in tensors if t.first_bad == first.first_bad]
    of_them = f", {len(together)} of them first" if len(tensors) > 1 else ""
    biggest = max((t.grad_norm_max or 0.0 for t in tensors), default=0.0)
    yield (
        f"{_count(tensors)} became NaN or infinite{of_them}, at step {first.first_bad}: "
        f"{few(_names(together))}. The largest finite gradient norm among them was {biggest:.1e}. "
        "Look there for a division, logarithm or square root near zero; lower the learning rate or "
        "clip gradients; in half precision use a gradient scaler.",
        tensors,
    )


def _no_update(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    for some in _by(tensors, lambda t: t.why == NO_RATE):
        if some[0].why == NO_RATE:
            yield f"{_does(some, 'have')} a learning rate of 0: {few(_names(some))}.", some
            continue
        yield (
            f"{_does(some, 'get')} a gradient without moving: {few(_names(some))} "
            f"({_why(some)}). The step is smaller than the spacing of the weights' numbers, or "
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
            does = f"{_does(some, verb)} {means}"
            yield f"{does} ({_why(some)}): {few(_names(some))}. {try_this}", some


def _constants(diagnosis: Diagnosis) -> Iterator[Advice]:
    """Of biases whose gradient is rounding noise, since a constant there changes no loss."""
    small = [t for t in diagnosis.tensors if t.verdict in ("vanishing", "low")]
    keys = [t for t in small if _key_bias(t.name)]
    if keys:
        one = len(keys) == 1
        yield Advice(
            keys[0].verdict,
            f"{_count(keys)} {'is the bias' if one else 'are biases'} of attention keys "
            f"({few(_names(keys))}): a constant added to all keys leaves the softmax as it is, so "
            f"the gradient is rounding noise (norm {_span(keys)}). {_HARMLESS}; "
            f"{'it' if one else 'they'} could be left out.",
            _names(keys),
        )
    beside = {t.name.removesuffix("weight"): t.grad_rms for t in diagnosis.tensors}
    others = [
        t
        for t in small
        if t not in keys
        and t.name.endswith("bias")
        and (t.grad_rms or 0.0) < _NOISE * (beside.get(t.name.removesuffix("bias")) or 0.0)
    ]
    if others:
        yield Advice(
            others[0].verdict,
            f"The gradient of {_count(others, 'bias', 'biases')} is rounding noise (norm "
            f"{_span(others)}; less than {_NOISE:.0e} of that of the weight beside it): "
            f"{few(_names(others))}. What follows takes off whatever constant is added there, as "
            f"batch normalization does. {_HARMLESS}; a bias could be left out there.",
            _names(others),
        )


def _small(word: str) -> Callable[[Tensors], Iterator[tuple[str, Tensors]]]:
    def rule(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
        for some in _by(tensors, lambda t: region(t.name, 1)):
            ratios = [t.update_ratio or 0.0 for t in some]
            share = min(getattr(t, word) for t in some)  # a mean may be that of a few large ones
            steps = "all steps" if share == 1 else f"at least {int(100 * share)}% of the steps"
            if any(t.nonzero < t.steps for t in some):
                steps += " with a gradient"
            then = (
                "Adam's steps do not depend on the gradient's size and still move them, least of "
                f"all by {min(ratios):.0e} of the norm a step, be it signal or noise."
                if min(ratios) > SLOW
                else f"The smallest step is {min(ratios):.0e} of the weights' norm."
            )
            yield (
                f"The gradient of {_count(some)} of {region(some[0].name, 1)} is {word} in "
                f"{steps} (mean norm {_span(some)}): {few(_names(some))}. "
                "Probable causes: a small factor (layer scale, gate, loss weight) or a saturated "
                "activation between them and the loss. "
                f"{then} Try a larger factor at the start, or a normalization before it.",
                some,
            )

    return rule


def _unchanged(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    moved = max(t.change_max or 0.0 for t in tensors)
    yield (
        f"{_does(tensors, 'stay')} as at the start, to {moved:.0e}: "
        f"{few(_names(tensors))}. Steps cancel or are tiny, at a learning rate of at most "
        f"{max(t.learning_rate for t in tensors):.1e}: raise it.",
        tensors,
    )


def _dead_rows(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    for kind, some in _kinds(tensors):
        names, rows = few(_names(some)), _rows(some)
        if kind == "key":
            text = (
                f"The key third of {_count(some)} gets no more than rounding noise ({names}): a "
                "constant added to all keys leaves the softmax as it is. "
                f"{_HARMLESS} by construction."
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
                f"kernel wants, and are read by nothing. {_HARMLESS} by construction."
            )
        else:
            text = (
                f"In {_count(some)} some output rows never get a gradient ({rows}): {names}. Units "
                "that a ReLU holds at zero, outputs that no loss reads, or classes that did not "
                "occur. Lower the learning rate, use a leaky activation, or remove the rows."
            )
        yield text, some


def _below_ulp(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    lost = max(t.lost or 0.0 for t in tensors)
    yield (
        f"In {_count(tensors)} most elements with a gradient do not move in a step (up to "
        f"{lost:.0%}): {few(_names(tensors))}. The step is below the rounding of the weights: keep "
        "the weights in float32, or raise the learning rate.",
        tensors,
    )


def _intermittent(tensors: Tensors) -> Iterator[tuple[str, Tensors]]:
    for some in _by(tensors, lambda t: (t.nonzero, t.last_nonzero)):
        one = some[0]
        stopped = one.last_nonzero is not None and one.last_nonzero <= one.steps - one.nonzero
        then = (
            "The gradient stopped: was a branch switched off or frozen, or did its units die (a "
            "ReLU that no input passes), at a learning rate of "
            f"{max(t.learning_rate for t in some):.1e}?"
            if stopped
            else "A conditional branch is taken too rarely to learn much."
        )
        yield (
            f"{_count(some)} had a gradient in only {one.nonzero} of {one.steps} steps, last at "
            f"step {one.last_nonzero}: {few(_names(some))}. {then}",
            some,
        )


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
        f"The gradient norm of {_count(tensors)} is often above the limit: {few(_names(tensors))}. "
        f"The largest is {worst.grad_norm_max:.1f}, in {worst.name}; a norm grows with the number "
        f"of elements, and there each of {worst.elements:,} has {worst.grad_rms:.1e} (RMS). Clip "
        f"the global norm. {then}",
        tensors,
    )


_RULES: dict[str, Callable[[Tensors], Iterator[tuple[str, Tensors]]]] = {
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


def _slow(diagnosis: Diagnosis) -> Iterator[Advice]:
    """What learns, and hardly: a learning rate that is too low has no flag of its own."""
    learning = [t for t in diagnosis.tensors if t.verdict in _LEARNING and t.update_ratio]
    highest = max((t.learning_rate for t in learning), default=0.0)
    for some in _by(learning, lambda t: t.learning_rate):
        ratio = median(t.update_ratio or 0.0 for t in some)
        rate = some[0].learning_rate
        if ratio >= SLOW or not rate:
            continue
        others = f" (the highest of the others: {highest:.1e})" if rate < highest else ""
        yield Advice(
            "learning rate",
            f"{_does(some, 'hardly learn')}: the median of the steps is {ratio:.0e} of the "
            f"weights' norm, where 1e-04 to 1e-02 is usual, at a learning rate of {rate:.1e}"
            f"{others}: {few(_names(some))}. Raise it, unless that is meant.",
            _names(some),
        )


def _thawed(diagnosis: Diagnosis) -> Iterator[Advice]:
    thawed, elements = diagnosis.measured.thawed, diagnosis.measured.elements
    if not thawed:
        return
    count, were = ("1 tensor", "was") if len(thawed) == 1 else (f"{len(thawed)} tensors", "were")
    yield Advice(
        UNSEEN,
        f"{count} {were} frozen when the monitor was made, and trained later: "
        f"{few(_whole({*thawed}, elements))}. Nothing is known of them. Give the optimizer all "
        "parameters from the start, or make another monitor where they are thawed.",
        thawed,
    )


def _frozen(diagnosis: Diagnosis) -> Iterator[Advice]:
    """Perhaps nobody meant it; by whole modules, for a backbone is some hundred tensors."""
    frozen, elements = {*diagnosis.frozen}, diagnosis.measured.elements
    if not frozen:
        return
    share = sum(elements[name] for name in frozen) / sum(elements.values())
    count = "1 tensor is" if len(frozen) == 1 else f"{len(frozen)} tensors are"
    yield Advice(
        FROZEN,
        f"{count} frozen (requires_grad is off), {share:.0%} of the elements: "
        f"{few(_whole(frozen, elements))}. Nothing of that is learned.",
        diagnosis.frozen,
    )


def _whole(chosen: set[str], every: Iterable[str]) -> list[str]:
    """The chosen names, with the outermost module in place of all of its own, as ``backbone.*``."""
    left = {name.rpartition(".")[0] for name in every if name not in chosen}
    open_modules = {".".join(levels[:n]) for one in left
                    for levels in [one.split(".")] for n in range(len(levels) + 1)}  # fmt: skip
    found: dict[str, None] = {}
    for name in every:
        if name in chosen:
            levels = name.split(".")
            above = (".".join(levels[:n]) for n in range(1, len(levels)))
            module = next((one for one in above if one not in open_modules), None)
            found[name if module is None else f"{module}.*"] = None
    return [*found]


def _of_terms(attribution: Attribution) -> Iterator[Advice]:
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


def _kinds(tensors: Tensors) -> Iterator[tuple[str, list[TensorReport]]]:
    for kind in ("box", "padding", "key", ""):
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
    return ""


def _key_bias(name: str) -> bool:
    return bool(re.search(r"(^|\.)(k_proj|key|key_proj|k)\.bias$", name))


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


def _span(tensors: Tensors) -> str:
    norms = [t.grad_norm for t in tensors if t.grad_norm is not None]
    if not norms:
        return "none"
    low, high = min(norms), max(norms)
    return f"{low:.1e}" if low == high else f"{low:.1e} to {high:.1e}"


def _by(tensors: Tensors, key: Callable[[TensorReport], object]) -> list[list[TensorReport]]:
    groups: dict[object, list[TensorReport]] = {}
    for tensor in tensors:
        groups.setdefault(key(tensor), []).append(tensor)
    return list(groups.values())


def _count(tensors: Tensors, noun: str = "tensor", several: str = "") -> str:
    return counted(len(tensors), noun, several)


def _does(tensors: Tensors, verb: str) -> str:
    of_one = "has" if verb == "have" else f"{verb}s"
    return f"{_count(tensors)} {of_one if len(tensors) == 1 else verb}"


def _why(tensors: Tensors) -> str:
    """The reason that they have, or that of the first of them."""
    first = tensors[0]
    alone = len({t.why for t in tensors}) > 1
    return f"{first.name}: {first.why}" if alone else first.why


def _names(tensors: Tensors) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in tensors)


def _joined(names: Sequence[str]) -> list[str]:
    """``a.0.w``, ``a.1.w`` as ``a.{0,1}.w``: names that differ in their numbers alone."""
    groups: dict[str, list[list[str]]] = {}
    for name in names:
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", "\0", name)
        groups.setdefault(pattern, []).append(re.findall(r"(?<=\.)\d+(?=\.)", name))
    joined = []
    for pattern, numbers in groups.items():
        parts = pattern.split("\0")
        text = parts[0]
        for column, rest in zip(zip(*numbers, strict=True), parts[1:], strict=True):
            distinct = list(dict.fromkeys(column))
            text += (distinct[0] if len(distinct) == 1 else "{" + ",".join(distinct) + "}") + rest
        joined.append(text)
    return joined
