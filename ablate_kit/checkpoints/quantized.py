"""Weights that are stored as integers or 8-bit floats with scales beside them, by their names.

As GPTQ, AWQ, bitsandbytes, torchao, compressed-tensors, HQQ and the 8-bit floats of several
libraries write them. What one of these tensors says, the others decide: packed integers hold two
channels in a byte, and zero need not mean 0.0.
"""

import re
from collections.abc import Mapping

from ablate_kit.checkpoints.tensors import TensorInfo

_CARRIERS = {"int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64"}
_WEIGHT = re.compile(r"(?:.*[._])?(?:q?weight|bias|W_q)(?:_packed|_data)?|.*_blocks")
_ALONE = re.compile("(?:.*_proj_)?q?weight|W_q|weight_packed")  # of modules; no mask is called so
_SCALES = re.compile(
    r"(?:.*_)?(?:scale(?:s|_inv)?|(?:q?zeros?|zero_points?)|absmax|SCB|g_idx|quant_map|shape|scale_weight)"
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
        and _WEIGHT.fullmatch(name.rpartition(".")[2])
    }
    if not weights:
        return {}
    beside: dict[str, list[str]] = {}
    for name in tensors:
        beside.setdefault(name.rpartition(".")[0], []).append(name)
    found: dict[str, str] = {}
    read_by: dict[str, str] = {}
    for name, info in weights.items():
        module, _, leaf = name.rpartition(".")
        own = [other for other in _below(beside, name) if other not in weights]
        own += [
            other
            for other in beside[module]
            if other not in weights and _belongs(leaf, other.rpartition(".")[2])
        ]
        packed = info.dtype in _CARRIERS and len(info.shape) > 1 and _ALONE.fullmatch(leaf)
        if packed or own:
            scaled = f', which "{own[0]}" scales' if own else ""
            found[name] = f"quantized, in {info.dtype}{scaled}"
        read_by |= dict.fromkeys(own, f'what the quantized "{name}" is read by')
    return found | read_by


def _below(beside: Mapping[str, list[str]], name: str) -> list[str]:
    """As bitsandbytes names them: ``weight.absmax``, ``weight.quant_state.bitsandbytes__nf4``."""
    return [*beside.get(name, ()), *beside.get(f"{name}.quant_state", ())]


def _belongs(weight: str, other: str) -> bool:
    if not _SCALES.fullmatch(other):
        return False
    stem = re.sub("_packed|_data|_blocks", "", weight)
    owner = re.fullmatch(r"(.*(?:weight|bias))_.+", other)  # weight_scale of weight, not of bias
    if owner is None:  # of the module's weight, or by the name of what it scales
        return _ALONE.fullmatch(stem) is not None or other.startswith(stem)
    return owner[1] == stem
