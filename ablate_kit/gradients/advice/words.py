"""Tensors in sentences: their names, how many there are, what they have in common."""

import re
from collections.abc import Callable, Iterable, Sequence

from ablate_kit.gradients.diagnose import TensorReport
from ablate_kit.plural import counted, first_few

Tensors = Sequence[TensorReport]


def few(names: Sequence[str]) -> str:
    """``a, b, c and 5 more``; numbered names of one pattern are joined: ``layers.{0,1}.bias``."""
    return first_few(_joined(names), 3)


def whole_modules(chosen: set[str], every: Iterable[str]) -> list[str]:
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


def norms(tensors: Tensors) -> str:
    known = [t.grad_norm for t in tensors if t.grad_norm is not None]
    if not known:
        return "none"
    low, high = min(known), max(known)
    return f"{low:.1e}" if low == high else f"{low:.1e} to {high:.1e}"


def by(tensors: Tensors, key: Callable[[TensorReport], object]) -> list[list[TensorReport]]:
    groups: dict[object, list[TensorReport]] = {}
    for tensor in tensors:
        groups.setdefault(key(tensor), []).append(tensor)
    return list(groups.values())


def amount(tensors: Tensors, noun: str = "tensor", several: str = "") -> str:
    return counted(len(tensors), noun, several)


def does(tensors: Tensors, verb: str) -> str:
    of_one = "has" if verb == "have" else f"{verb}s"
    return f"{amount(tensors)} {of_one if len(tensors) == 1 else verb}"


def reason(tensors: Tensors) -> str:
    """The reason that they have, or that of the first of them."""
    first = tensors[0]
    alone = len({t.why for t in tensors}) > 1
    return f"{first.name}: {first.why}" if alone else first.why


def called(tensors: Tensors) -> tuple[str, ...]:
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
