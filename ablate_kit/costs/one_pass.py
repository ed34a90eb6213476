"""What one forward pass computes and holds: floating point operations, and bytes of tensors."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def _attention_flops(
    query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any
) -> int:
    return sdpa_flop_count(query, key, value)


# PyTorch's counter knows the kernels of a GPU, and on a CPU would pass over attention in silence.
_FORMULAS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


def flops_of(run: Callable[[], Any], module: nn.Module) -> int:
    """Floating point operations while ``run`` runs ``module``, as ``cost.COUNTED`` says."""
    flops = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with _frozen(module), flops:
        run()
    return int(flops.get_total_flops())


def peak_bytes(run: Callable[[], Any], module: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """The most bytes at once while ``run`` runs ``module``: of weights, inputs, and all tensors
    that are alive. On a GPU that is what PyTorch allocates; elsewhere what its operators return,
    without their scratch."""
    device = next((one.device for one in module.parameters()), torch.device("cpu"))
    # A network on a GPU is given its inputs there, whatever they were copied from.
    held = [*module.parameters(), *module.buffers(), *(x.to(device) for x in inputs.values())]
    storages = [one.untyped_storage() for one in held]
    standing = sum({one._cdata: one.nbytes() for one in storages}.values())
    if device.type != "cuda":
        with _LiveBytes(held) as live:
            run()
        return standing + live.peak
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return standing + torch.cuda.max_memory_allocated(device) - before


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """PyTorch's counter looks for the gradient of a parameter that a module is given as input."""
    learned = [one for one in module.parameters() if one.requires_grad]
    for one in learned:
        one.requires_grad_(False)
    try:
        yield
    finally:
        for one in learned:
            one.requires_grad_(True)


class _LiveBytes(TorchDispatchMode):
    """The most bytes that were alive at once of what operators returned."""

    supports_higher_order_operators = True

    def __init__(self, standing: Iterable[Tensor]) -> None:
        super().__init__()
        self.peak = 0
        # Views of these are nothing new.
        self._standing = {x.untyped_storage()._cdata for x in standing}
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        gone = [key for key, (ref, _) in self._alive.items() if ref.expired()]
        for key in gone:
            del self._alive[key]
        for one in tree_leaves(found):
            if isinstance(one, Tensor) and one.layout == torch.strided:
                storage = one.untyped_storage()
                if storage._cdata not in self._standing:
                    ref = StorageWeakRef(storage)
                    self._alive[storage._cdata] = (ref, storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return found
