"""What a detector is made of, found by itself: a tree of parts in the order of the forward pass.

Names tell which tensors belong together, and where attention, feed-forward branches, queries and
levels are (``anatomy``); one traced forward pass tells in which order they are used, and which are
not used at all, such as heads that only training needs.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from ablate_kit.ablations.attention import Attention
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.residual_branches import skips
from ablate_kit.ablations.name_patterns import parts_in_model
from ablate_kit.anatomy.feed_forwards import feed_forwards
from ablate_kit.anatomy.layouts import is_beside
from ablate_kit.checkpoints.told import tell
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter, Prepared
from ablate_kit.models.inference.detect import inference, placed
from ablate_kit.plural import first_few
from ablate_kit.sweeps.execution.replay import CannotTraceError, Replay
from ablate_kit.sweeps.execution.trace import NEVER, Trace

Kind = Literal[
    "model", "group", "layer", "block", "attention", "feed-forward", "queries", "level", "module",
    "tensor",
]  # fmt: skip
_LAYERS = ("weight", "bias")  # what layers call their tensors
_WRAPS = 0.95  # share of a model's elements that makes a module a mere shell around its parts


@dataclass(frozen=True)
class Part:
    """A module of the checkpoint, and what it is made of."""

    name: str  # of the module, as the checkpoint has it; "" of the whole model
    # What it is; a layer holds attention, a block does not. A tensor is no module, but what one has
    # itself beside its parts, such as embeddings of positions or levels.
    kind: Kind
    tensors: tuple[str, ...]  # floating ones under it
    begins: float  # when the forward pass first uses one of them; ``NEVER`` where nothing tells
    elements: int  # of the tensors
    heads: int = 0  # of an attention, how many; 0 where that cannot be told or they cannot be cut
    children: tuple["Part", ...] = ()  # in the order of the forward pass

    def walk(self) -> Iterator["Part"]:
        """This part and all within it, each before its own parts."""
        yield self
        for child in self.children:
            yield from child.walk()

    def branches(self) -> list["Part"]:
        """The residual branches of transformer layers within it."""
        return [one for one in self.walk() if one.kind in ("attention", "feed-forward")]

    @property
    def number(self) -> bool:
        """Whether it is one of a list."""
        return self.name.rpartition(".")[2].isdecimal()


def traced(adapter: Adapter, prepared: Prepared) -> tuple[Replay, Trace] | None:
    """One forward pass, watched; None where a model's calls cannot be seen."""
    inputs = placed(adapter, prepared).inputs
    replay = Replay(adapter.module)
    try:
        with inference(adapter.module), replay:
            _, trace = replay.trace(lambda: adapter.forward(inputs))
    except CannotTraceError:
        return None
    return replay, trace


def first_uses(adapter: Adapter, replay: Replay, trace: Trace) -> dict[str, float]:
    """When each tensor of the checkpoint is first used in a pass; ``NEVER``: it is not."""
    state = adapter.module.state_dict(keep_vars=True)
    found = {}
    names = adapter.live_names()
    for name, live in {**names, **parts_in_model(names)}.items():
        tensors = [replay.identities.tensor(one, state[one]) for one in live if one in state]
        found[name] = min((trace.first_use.get(one, NEVER) for one in tensors), default=NEVER)
    return found


def tell_of_uncounted(source: KindContext) -> None:
    """Says of which attention modules the heads are left out, as their number is not known."""
    with suppress(UserError):  # which says that there is no attention
        unknown = [one.prefix for one in source.attentions("**", None) if one.heads is None]
        if unknown:
            tell(
                f"heads of {first_few(unknown, 3)} are left out, as nothing tells their number: "
                "num_heads does, in a recipe's line, or of the module in code of your own"
            )


@dataclass
class _Node:
    name: str
    children: dict[str, "_Node"] = field(default_factory=dict)
    tensors: list[str] = field(default_factory=list)  # all under it
    own: bool = False  # whether it has tensors itself


def structure(source: KindContext, uses: Mapping[str, float] | None) -> Part:
    """The parts of a checkpoint's model.

    Args:
        uses: as ``first_uses``; without it, all tensors count as used, in the order of the file.
    """
    tensors = source.checkpoint.tensors
    floating = [name for name in tensors if tensors[name].is_floating]
    order: dict[str, float] = {name: i for i, name in enumerate(floating)}
    if uses:
        order = {name: uses.get(name, NEVER) for name in floating}
    root = _Node("")
    for name in source.checkpoint.distinct([one for one in floating if order[one] < NEVER]):
        node = root
        node.tensors.append(name)
        for level in name.split(".")[:-1]:
            full = f"{node.name}.{level}" if node.name else level
            node = node.children.setdefault(level, _Node(full))
            node.tensors.append(name)
        node.own = True
    found = _Finder(source, order).part(root)
    return replace(_unwrapped(found), name="", kind="model")


class _Finder:
    def __init__(self, source: KindContext, order: Mapping[str, float]) -> None:
        self._source = source
        self._tensors = source.checkpoint.tensors
        self._order = order
        self._anatomy = source.anatomy
        known: list[Attention] = []
        with suppress(UserError):  # which says that there is none
            known = source.attentions("**", None)
        prefixes = [one.prefix for one in known]
        self._attentions = {one.prefix: one for one in known if prefixes.count(one.prefix) == 1}
        pairs = list(feed_forwards(self._tensors))
        self._feed_forwards = {one.module: {*one.first, one.last} for one in pairs}
        self._last_layers = {one.last for one in pairs}

    def part(self, node: _Node) -> Part:
        first, names = node, [node.name]
        while len(node.children) == 1 and not node.own and node.name not in self._attentions:
            (node,) = node.children.values()
            names.append(node.name)
        attention = self._attentions.get(node.name)
        if attention:
            return self._of(node.name, "attention", node.tensors, self._heads(attention))
        if names[-1].rpartition(".")[2] in self._anatomy.feed_forwards:
            return self._of(node.name, "feed-forward", node.tensors)
        children = [*map(self.part, node.children.values()), *self._tensors_of(node)]
        children = self._with_feed_forward(self._with_projections(children))
        kind = self._kind(first, children)
        return self._of(first.name, kind, node.tensors, children=self._worth(children))

    def _tensors_of(self, node: _Node) -> Iterator[Part]:
        for name in node.tensors if node.children else ():
            module, _, own = name.rpartition(".")
            rows = [side for side in self._tensors[name].shape if side > 1]
            if module == node.name and own not in _LAYERS and len(rows) > 1:
                yield self._of(name, "tensor", [name])

    def _of(
        self,
        name: str,
        kind: Kind,
        tensors: list[str],
        heads: int = 0,
        children: tuple[Part, ...] = (),
    ) -> Part:
        begins = min((self._order[one] for one in tensors), default=NEVER)
        elements = sum(math.prod(self._tensors[one].shape) for one in tensors)
        return Part(name, kind, tuple(tensors), begins, elements, heads, children)

    def _heads(self, attention: Attention) -> int:
        if attention.heads is None:
            return 0
        try:
            attention.remove([0])
        except UserError:
            return 0
        return attention.heads

    def _kind(self, node: _Node, children: list[Part]) -> Kind:
        level = node.name.rpartition(".")[2]
        above = node.name.rpartition(".")[0].rpartition(".")[2]
        if level.isdecimal() and above in self._anatomy.level_lists:
            return "level"
        if any(one.branches() for one in children):
            return "layer" if level.isdecimal() else "group"
        if any(self._anatomy.is_query_table(name) for name in node.tensors):
            return "queries"
        if level.isdecimal():
            return "block"
        return "group" if children else "module"

    def _with_projections(self, children: list[Part]) -> list[Part]:
        """The same, where projections beside attention modules are no parts, but theirs."""
        for whole in [one for one in children if one.name in self._attentions]:
            attention = self._attentions[whole.name]
            own = [c for c in children if is_beside(c.name, attention.prefix, attention.layout)]
            if own:
                tensors = [name for one in (*own, whole) for name in one.tensors]
                joined = self._of(whole.name, "attention", tensors, whole.heads)
                children = [joined if c is whole else c for c in children if c not in own]
        return children

    def _with_feed_forward(self, children: list[Part]) -> list[Part]:
        """The same, with a layer's feed-forward branch, which only its layers may tell. Where it
        has no module of its own, the last one (``fc2``) stands for it, with the one that leads to
        it."""
        if not any(one.kind == "attention" for one in children):
            return children
        children = [
            self._of(one.name, "feed-forward", list(one.tensors))
            if self._is_feed_forward(one)
            else one
            for one in children
        ]
        last = next((c for c in children if self._leads_back(c)), None)
        if last is None:
            return children
        width = self._shape(last)
        pair = [c for c in children if c is not last and self._shape(c)[::-1] == width]
        tensors = [name for one in (*pair, last) for name in one.tensors]
        rest = [one for one in children if one is not last and one not in pair]
        return [*rest, self._of(last.name, "feed-forward", tensors)]

    def _is_feed_forward(self, part: Part) -> bool:
        """Whether it is such a branch, or one with nothing but norms and the like around it."""
        weights = {name for name in part.tensors if len(self._tensors[name].shape) > 1}
        return part.name in self._feed_forwards or weights in self._feed_forwards.values()

    def _leads_back(self, part: Part) -> bool:
        level = part.name.rpartition(".")[2]
        named = level in self._anatomy.last_layers or self._last_layers & set(part.tensors)
        if part.kind != "module" or not named:
            return False
        try:
            return bool(skips([part.name], self._tensors, self._anatomy))
        except UserError:
            return False

    def _shape(self, part: Part) -> tuple[int, ...]:
        weights = [name for name in part.tensors if name.endswith(".weight")]
        return self._tensors[weights[0]].shape if len(weights) == 1 else ()

    def _worth(self, children: list[Part]) -> tuple[Part, ...]:
        """Those that are parts by themselves: no norms and scales, and no lone projections of
        something that is a whole only with them."""
        kept = [
            one
            for one in children
            if one.children
            or one.kind not in ("module", "block")
            or any(len(self._tensors[name].shape) > 1 for name in one.tensors)
        ]
        shells = [one for one in kept if one.kind != "tensor"]
        if len(shells) == 1:  # a list of layers, say: its parts are those of the whole
            beside = [one for one in kept if one is not shells[0]]
            alone = shells if beside or shells[0].branches() else ()
            kept = [*(shells[0].children or alone), *beside]
        whole = [one for one in kept if one.children or one.kind != "module"]
        return tuple(sorted(kept, key=lambda one: one.begins)) if whole else ()


def _unwrapped(root: Part) -> Part:
    """Without shells such as ``model``, in which nearly everything is."""
    while True:
        least = _WRAPS * root.elements
        large = (one for one in root.children if one.elements >= least and not one.number)
        shell = next((one for one in large if len(one.children) > 1), None)
        if shell is None:
            return root
        rest = [one for one in root.children if one is not shell]
        inner = tuple(sorted((*shell.children, *rest), key=lambda one: one.begins))
        root = replace(root, children=inner)
