"""Attention under names of its own: projections that are called alike but for query, key and value.

``wq``, ``to_q``, ``q_linear``, ``fc_q`` with their keys and values, ``to_qkv`` or ``q`` and ``kv``:
beside them lies the projection that takes what all heads give, which its shape tells.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from ablate_kit.anatomy.head_counts import Shaped
from ablate_kit.anatomy.layouts import Layout

_ROLES = {
    spelled: role
    for role, word in (("q", "query"), ("k", "key"), ("v", "value"))
    for spelled in (role, f"{role}s", word, f"{word}s")
} | {"queries": "q", "kv": "kv", "qkv": "qkv"}
_ALL = ("c_attn", "in_proj")  # projections to all three, whose names do not say so
_OUT = {"o", "wo", "out", "output"}  # words in the names of output projections
# Names of output projections that say no more than that they are layers. What else has the shape
# may be a gate, a projection of positions, or the first layer of a feed-forward branch.
_PLAIN = {"c", "dense", "fc", "final", "last", "lin", "linear", "merge", "proj", "projection"}

Shape = tuple[int, int]  # of a projection: out, in


def by_projections(tensors: Mapping[str, Shaped]) -> Iterator[tuple[str, Layout]]:
    """The prefix and the layout of every module with such projections among these tensors."""
    modules: dict[str, dict[str, Shape]] = defaultdict(dict)
    for name, tensor in tensors.items():
        shape = tuple(tensor.shape)
        if not name.endswith(".weight") or len(shape) < 2 or math.prod(shape[2:]) != 1:
            continue
        prefix, _, own = name.removesuffix(".weight").rpartition(".")
        if own == "0":  # the first of several layers, such as ``to_out.0`` before its dropout
            prefix, _, own = prefix.rpartition(".")
            own = f"{own}.0"
        modules[prefix][own] = shape[0], shape[1]
    for prefix, shapes in modules.items():
        layout = _layout(shapes)
        if layout:
            yield prefix, layout


def _layout(shapes: Mapping[str, Shape]) -> Layout | None:
    alike: dict[str, dict[str, str]] = defaultdict(dict)
    for name in shapes:
        role, rest = _role(name.removesuffix(".0"))
        if role:
            alike[rest][role] = name
    found = [layout for roles in alike.values() if (layout := _of_roles(roles, shapes))]
    return found[0] if len(found) == 1 else None


def _role(name: str) -> tuple[str, str]:
    """Which of query, key and value a projection is to, by its name, and what else that says."""
    role, rest = "", []
    for word in name.lower().split("_"):
        # ``wq``: the weights of queries.
        bare = word[1:] if word.startswith("w") and word[1:] in _ROLES else word
        role += _ROLES.get(bare, "")
        rest.append(word.removesuffix(bare) if bare in _ROLES else word)
    return "qkv" if name in _ALL else role, "_".join(one for one in rest if one)


def _of_roles(roles: Mapping[str, str], shapes: Mapping[str, Shape]) -> Layout | None:
    rows = {role: shapes[name][0] for role, name in roles.items()}
    if "qkv" in roles:
        # Where heads share keys and values, these are fewer than what the heads give; so below.
        return _with_output("fused", [roles["qkv"]], shapes, lambda n: n < rows["qkv"] <= 3 * n)
    if "q" in roles and "kv" in roles:
        return _with_output(
            "half fused", [roles["q"], roles["kv"]], shapes, lambda n: n == rows["q"]
        )
    if all(role in roles for role in "qkv"):
        projections = [roles[role] for role in "qkv"]
        return _with_output("separate", projections, shapes, (rows["q"], rows["v"]).__contains__)
    return None


def _with_output(
    layout: str, projections: list[str], shapes: Mapping[str, Shape], fits: Callable[[int], bool]
) -> Layout | None:
    """The layout, where one projection beside these takes as many numbers as all heads give, by
    ``fits``."""
    fitting = [
        name
        for name, (_, width) in shapes.items()
        if fits(width) and not _role(name.removesuffix(".0"))[0]
    ]
    words = {one: set(one.lower().removesuffix(".0").split("_")) for one in fitting}
    named = [one for one in fitting if _OUT & words[one]]
    found = named or [one for one in fitting if words[one] <= _PLAIN]
    if len(found) != 1:
        return None
    required = (f"{one}.weight" for one in (*projections, *found))
    value = projections[2] if layout == "separate" else None
    return Layout(layout, tuple(required), (f"{found[0]}.weight",), value)
