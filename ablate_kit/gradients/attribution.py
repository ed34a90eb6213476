"""Which term of the loss a parameter learns from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ablate_kit.gradients.counters import Floats

SOLE = 0.99  # of the sum of the terms' gradient norms


@dataclass(frozen=True)
class Attribution:
    """Gradient norms of T tensors by loss term, of one batch."""

    step: int
    terms: tuple[str, ...]
    names: tuple[str, ...]
    norms: Floats  # (terms, T)

    def shares(self) -> Floats:
        """(terms, T) of the sum over terms; zero where no term reaches a tensor."""
        total = self.norms.sum(0)
        return self.norms / np.where(total > 0, total, 1)

    def sole(self) -> dict[str, list[tuple[str, float]]]:
        """Per term the tensors, and their shares, of which it gives nearly all the gradient."""
        shares = self.shares()
        found: dict[str, list[tuple[str, float]]] = {}
        for i, name in enumerate(self.names):
            k = int(shares[:, i].argmax())
            if shares[k, i] >= SOLE:
                found.setdefault(self.terms[k], []).append((name, float(shares[k, i])))
        return found


def attribute(
    terms: Mapping[str, Tensor], names: Sequence[str], parameters: Sequence[nn.Parameter], step: int
) -> Attribution | None:
    """One backward pass per term, which keeps the graph and leaves every ``.grad`` as it is.

    None where fewer than two terms have a gradient: there is nothing to tell apart.
    """
    with_gradient = {name: term for name, term in terms.items() if term.requires_grad}
    if len(with_gradient) < 2:
        return None
    trained = [(i, p) for i, p in enumerate(parameters) if p.requires_grad]
    norms = np.zeros((len(with_gradient), len(parameters)))
    for k, term in enumerate(with_gradient.values()):
        found = torch.autograd.grad(
            term, [p for _, p in trained], retain_graph=True, allow_unused=True
        )
        reached = [(i, g) for (i, _), g in zip(trained, found, strict=True) if g is not None]
        if reached:
            places, gradients = zip(*reached, strict=True)
            lengths = torch._foreach_norm(gradients)
            norms[k, places] = torch.stack([x.to(lengths[0].device) for x in lengths]).cpu().numpy()
    return Attribution(step, tuple(with_gradient), tuple(names), np.nan_to_num(norms))
