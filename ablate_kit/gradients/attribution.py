"""Which term of the loss a parameter learns from."""

from dataclasses import dataclass

import numpy as np

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
