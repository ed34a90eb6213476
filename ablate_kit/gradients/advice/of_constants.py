"""Biases whose gradient is rounding noise, since a constant there changes no loss."""

import re
from collections.abc import Iterator

from ablate_kit.gradients.advice.advice import HARMLESS, Advice
from ablate_kit.gradients.advice.words import amount, called, few, norms
from ablate_kit.gradients.diagnose import Diagnosis

_NOISE = 1e-4  # of the RMS of a weight's gradient: sums in float32 cancel to 1e-5 of it and less


def of_constants(diagnosis: Diagnosis) -> Iterator[Advice]:
    small = [t for t in diagnosis.tensors if t.verdict in ("vanishing", "low")]
    keys = [t for t in small if re.search(r"(^|\.)(k_proj|key|key_proj|k)\.bias$", t.name)]
    if keys:
        one = len(keys) == 1
        yield Advice(
            keys[0].verdict,
            f"{amount(keys)} {'is the bias' if one else 'are biases'} of attention keys "
            f"({few(called(keys))}): a constant added to all keys leaves the softmax as it is, so "
            f"the gradient is rounding noise (norm {norms(keys)}). {HARMLESS}; "
            f"{'it' if one else 'they'} could be left out.",
            called(keys),
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
            f"The gradient of {amount(others, 'bias', 'biases')} is rounding noise (norm "
            f"{norms(others)}; less than {_NOISE:.0e} of that of the weight beside it): "
            f"{few(called(others))}. What follows takes off whatever constant is added there, as "
            f"batch normalization does. {HARMLESS}; a bias could be left out there.",
            called(others),
        )
