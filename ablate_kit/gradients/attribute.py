"""Measures which term of the loss a parameter learns from."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ablate_kit.gradients.attribution import Attribution


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
