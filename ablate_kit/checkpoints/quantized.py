"""Weights that are stored as integers or 8-bit floats with scales beside them, by their names.

As GPTQ, AWQ, bitsandbytes, torchao, compressed-tensors, HQQ, Quanto and the 8-bit floats of several
libraries write them. What one of these tensors says, the others decide: packed integers hold two
channels in a byte, and zero need not mean 0.0.
"""

import re
from collections.abc import Mapping

from ablate_kit.checkpoints.tensors import TensorInfo
from ablate_kit.errors import UserError

_CARRIERS = {"int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64"}
_DATA = "_packed|[_:]_?q?data"  # what the name of a weight ends with that lies in parts
_WEIGHT = re.compile(rf"(?:.*[._])?(?:q?weight|bias|W_q)(?:{_DATA})?|.*_blocks")
_ALONE = re.compile("(?:.*_proj_)?q?weight|W_q|weight_packed")  # of modules; no mask is called so
_BY = re.compile("scale|absmax|SCB")  # of which one is named
_INNER = "._data"  # of a weight that is an object of several tensors
_SCALES = re.compile(
    r"(?:.*[_:])?(?:scale(?:s|_inv)?|(?:q?zeros?|zero_points?)|absmax|SCB|g_idx|quant_map|shape|scale_weight)"
)


def quantized(tensors: Mapping[str, TensorInfo]) -> dict[str, str]:
    """The tensors that are read by others, and why: quantized weights, and their scales.

    Without a scale, an 8-bit float is a number like others, and so are integers that are no
    module's weight: a causal mask is named ``attn.bias``, counts per class ``class_weight``.
    """
    weights = {
        name: info
        for name, info in tensors.items()
        if (info.dtype in _CARRIERS or info.dtype.startswith("float8"))
        and info.shape
        and _WEIGHT.fullmatch(_of_module(name)[1])
    }
    if not weights:
        return {}
    beside: dict[str, list[str]] = {}
    for name in tensors:
        beside.setdefault(name.rpartition(".")[0], []).append(name)
    found: dict[str, str] = {}
    read_by: dict[str, str] = {}
    for name, info in weights.items():
        module, leaf = _of_module(name)
        whole = name.removesuffix(_INNER)
        # As bitsandbytes names them: weight.absmax, weight.quant_state.bitsandbytes__nf4; and
        # Quanto: weight._scale beside weight._data.
        below = (*beside.get(whole, ()), *beside.get(f"{whole}.quant_state", ()))
        own = [other for other in below if other not in weights]
        own += [
            other
            for other in beside.get(module, ())
            if other not in weights and _belongs(leaf, other.rpartition(".")[2])
        ]
        packed = info.dtype in _CARRIERS and len(info.shape) > 1 and _ALONE.fullmatch(leaf)
        if packed or own:
            scales = [one for one in own if _BY.search(one)] or own
            scaled = f', which "{scales[0]}" scales' if own else ""
            found[name] = f"quantized, in {info.dtype}{scaled}"
        read_by |= dict.fromkeys(own, f'what the quantized "{name}" is read by')
    return found | read_by


def not_cut(name: str, reason: str) -> UserError:
    """What is told where one of these is to be cut."""
    return UserError(
        f"{name} is {reason}: it cannot be cut; take a checkpoint that is not quantized"
    )


def _of_module(name: str) -> tuple[str, str]:
    """The module of a weight, and what it is called there."""
    module, _, leaf = name.removesuffix(_INNER).rpartition(".")
    return module, leaf


def _belongs(weight: str, other: str) -> bool:
    if not _SCALES.fullmatch(other):
        return False
    stem = re.sub(f"{_DATA}|_blocks", "", weight)
    owner = re.fullmatch(r"(.*(?:weight|bias))[_:].+", other)  # weight_scale of weight, not of bias
    if owner is None:  # of the module's weight, or by the name of what it scales
        return _ALONE.fullmatch(stem) is not None or other.startswith(stem)
    return owner[1] == stem
