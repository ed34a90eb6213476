"""What modules keep of their weights in evaluation, to compute it once: it has to go with them.

LeViT of transformers, and others of timm, gather their attention biases in the first pass and read
the parameter no more. Such modules throw away what they keep, or make it anew, in ``train``, as
PyTorch has no other sign that weights change.
"""

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

if TYPE_CHECKING:
    from torch import nn

# Where a ``train`` is defined that keeps nothing itself. That of transformers is of every model and
# those within it, each of which goes through all modules: longer than many a pass.
_KEEP_NOTHING = {"torch.nn.modules.module", "transformers.modeling_utils"}

_KEEPING: "WeakKeyDictionary[nn.Module, list[ref[nn.Module]]]" = WeakKeyDictionary()


def forget_kept(module: "nn.Module") -> None:
    """To be called once weights have changed. Modules in training keep nothing."""
    for reference in _keeping(module):
        one = reference()
        if one is None or one.training:
            continue
        modes = [(inner, inner.training) for inner in one.modules()]
        one.train()
        one.eval()
        for inner, mode in modes:
            inner.training = mode


def _keeping(module: "nn.Module") -> "list[ref[nn.Module]]":
    """Those that have a ``train`` of their own; looked for once, as it takes longer than many a
    pass."""
    if module not in _KEEPING:
        own = (one for one in module.modules() if type(one).train.__module__ not in _KEEP_NOTHING)
        _KEEPING[module] = [ref(one) for one in own]
    return _KEEPING[module]
