"""How each part is best cut: removed exactly where that is possible, else replaced by its mean.

Zero is a value that a network may never have seen at a place: the last resort, and said to be.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any, Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.means import is_transposed, output_axis
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.studies.common import general
from ablate_kit.studies.probe import Silenced
from ablate_kit.studies.structure import Part
from ablate_kit.sweeps.recipes.sweep_recipe import parse_kind

How = Literal["removed", "mean", "zero"]
Line = dict[str, Any]  # of a recipe

_BRANCHES = 0.6  # share of a part's elements in branches, for it to be cut by skipping these
MEAN_IMAGES = 16  # that means are taken over


@dataclass(frozen=True)
class Cut:
    """One part, or one head of it, and how it is cut."""

    part: str
    how: How
    variant: str  # the name of the ablation that does it
    line: Mapping[str, Any]  # of a recipe, that makes it, maybe among others
    head: int | None = None


class Cutter:
    """Chooses cuts for the parts of one checkpoint.

    Args:
        silenced: what ``probe`` found, by the name of the module in the running model.
        images: how many there are, for means.
    """

    def __init__(
        self, source: KindContext, adapter: Adapter, silenced: Mapping[str, Silenced], images: int
    ) -> None:
        self._source = source
        self._silenced = silenced
        self._module = adapter.module
        self._live = adapter.live_names()
        self._stored = {live: name for name, lives in self._live.items() for live in lives}
        self._images = min(images, MEAN_IMAGES)

    def cut(self, part: Part) -> Cut:
        """The whole part, in the way that is recommended for it."""
        if skipped := self._of_branches(part):
            return skipped
        if part.kind == "tensor":
            line: Line = {"kind": "component", "pattern": [part.name], "name": part.name}
            return Cut(part.name, "zero", part.name, line)
        if part.kind == "level":
            base, _, level = part.name.rpartition(".")
            line = {"kind": "levels", "base": base, "levels": [int(level)]}
            return Cut(part.name, "removed", part.name, line)
        return self._silence(part) or Cut(
            part.name, "zero", part.name, {"kind": "modules", "pattern": [part.name]}
        )

    def needs_probe(self, part: Part) -> bool:
        """Whether only a try tells how it is cut."""
        return part.kind not in ("model", "level", "tensor") and self._of_branches(part) is None

    def _of_branches(self, part: Part) -> Cut | None:
        """Of a residual branch, or what consists of such: none adds anything; norms stay."""
        branches = part.branches()
        if part in branches:
            return self._skip(part, [part.name])
        if branches and sum(one.elements for one in branches) >= _BRANCHES * part.elements:
            return self._skip(part, [one.name for one in branches], f"{part.name}-skip")
        return None

    def heads(self, part: Part) -> list[Cut]:
        """Each head by itself: its mean, where a bias can hold it."""
        line: Line = {"kind": "heads-mean", "pattern": part.name, "images": self._images}
        if self._biases & set(part.tensors):
            how: How = "mean"
            suffix = "-mean"
        else:
            line, how, suffix = {"kind": "heads", "pattern": part.name}, "removed", ""
        return [
            Cut(part.name, how, f"{part.name}-head{head}{suffix}", line, head)
            for head in range(part.heads)
        ]

    @cached_property
    def _biases(self) -> set[str]:
        """Of all attentions' output projections."""
        return {
            f"{one.name_of(output).removesuffix('weight')}bias"
            for one in self._source.attentions("**", None)
            for output in one.outputs
        }

    def live_modules(self, part: Part) -> list[str]:
        """The modules of the running model that hold a part's tensors and no others, the innermost
        first: around a branch that has all of them may lie what adds its input."""
        names = [(name, live) for name in part.tensors for live in self._live.get(name, ())[:1]]
        stored, inner = (_common([one[i].split(".")[:-1] for one in names]) for i in (0, 1))
        below = stored[len(part.name.split(".")) :]
        found = [".".join(inner)]
        while below and inner[-1:] == below[-1:]:
            inner, below = inner[:-1], below[:-1]
            found.append(".".join(inner))
        return [name for name in found if name]

    def _skip(self, part: Part, patterns: Sequence[str], name: str = "") -> Cut | None:
        line: Line = {"kind": "skip", "pattern": list(patterns)}
        if name:
            line |= {"together": True, "name": name}
        with suppress(UserError):
            (made,) = parse_kind(line).make(self._source)
            return Cut(part.name, "removed", made.name, line)
        return None

    def _silence(self, part: Part) -> Cut | None:
        tried = [self._silenced[one] for one in self.live_modules(part) if one in self._silenced]
        found = next((one for one in tried if one.gives == "removed"), next(iter(tried), None))
        if found is None:
            return self._all_removed(part)
        weight = self._stored.get(f"{found.layer}.weight")
        bias = self._stored.get(f"{found.layer}.bias")
        if weight is None:
            return None
        if found.gives == "removed":
            name = f"{part.name}-skip"
            patterns = [one for one in (weight, bias) if one]
            return Cut(part.name, "removed", name,
                       {"kind": "component", "pattern": patterns, "name": name})  # fmt: skip
        layer = weight.rpartition(".")[0]
        if bias != f"{layer}.bias":
            return None
        line: Line = {
            "kind": "channels", "pattern": [layer], "to": "mean", "together": True,
            "images": self._images,
        }  # fmt: skip
        shapes = self._source.checkpoint.shapes
        axis = output_axis(shapes, layer)
        if is_transposed(self._module.get_submodule(found.layer)) and axis == 0:
            return None  # shapes do not tell its output channels
        count = shapes[weight][axis]
        channels = f"0-{count - 1}" if count > 1 else "0"
        return Cut(part.name, "mean", f"{layer}-channel{channels}-mean", line)

    def _all_removed(self, part: Part) -> Cut | None:
        """A list of blocks, each of which can be removed."""
        if not part.children or not all(one.number for one in part.children):
            return None
        inner = [self._silence(one) for one in part.children]
        patterns: list[str] = []
        for one in inner:
            if one is None or one.how != "removed" or one.line["kind"] != "component":
                return None
            patterns += one.line["pattern"]
        name = f"{part.name}-skip"
        return Cut(part.name, "removed", name,
                   {"kind": "component", "pattern": patterns, "name": name})  # fmt: skip


def zeroed(cut: Cut) -> Cut | None:
    """The same place set to zero in place of its mean; None of what is no mean."""
    if cut.how != "mean":
        return None
    line: Line = {"kind": "channels", "pattern": cut.line.get("pattern"), "together": True}
    if cut.head is not None:
        line = {"kind": "heads", "pattern": cut.part}
    return Cut(cut.part, "zero", cut.variant.removesuffix("-mean"), line, cut.head)


def _common(paths: Sequence[Sequence[str]]) -> list[str]:
    alike = takewhile(lambda level: len(set(level)) == 1, zip(*paths, strict=False))
    return [level[0] for level in alike]


def lines_of(cuts: Iterable[Cut], controls: Iterable[Cut] = ()) -> list[Line]:
    """A recipe's lines that make these cuts, and one random control for some of them."""
    joint: dict[str, list[Cut]] = {}
    for cut in cuts:
        shape = {key: one for key, one in cut.line.items() if key not in ("pattern", "levels")}
        joint.setdefault(str(shape) if "name" not in shape else cut.variant, []).append(cut)
    lines: list[Line] = []
    beside = {cut.variant for cut in controls}
    for members in joint.values():
        line = dict(members[0].line)
        if members[0].head is not None:
            lines += _of_heads(line, members, beside)
            continue
        for key in ("pattern", "levels"):
            if key in line:
                line[key] = list(dict.fromkeys(x for one in members for x in one.line[key]))
        lines.append(line)
    return lines


def _of_heads(line: Line, members: Sequence[Cut], beside: set[str]) -> list[Line]:
    found = []
    for controlled in (False, True):
        heads = sorted(
            {one.head for one in members if one.head is not None
             and (one.variant in beside) == controlled}
        )  # fmt: skip
        if not heads:
            continue
        own = dict(line)
        if line["kind"] == "heads-mean":
            own["heads"] = heads
        extra = {"null_cuts": 1} if controlled else {}
        if line["kind"] == "heads":
            chosen = [{**own, "kind": "heads-chosen", "heads": [head], **extra} for head in heads]
            found += chosen
        else:
            found.append({**own, **extra})
    return found


def made(cuts: Sequence[Cut], source: KindContext) -> dict[str, Ablation]:
    """The ablations of these cuts, by name; heads of alike modules in one run over the images."""
    wanted = {cut.variant for cut in cuts}
    alike: dict[str, Cut] = {}
    for cut in cuts:
        if cut.head is not None:
            pattern = general(cut.part)
            line = {**cut.line, "pattern": pattern}
            alike.setdefault(str(line), replace(cut, line=line, head=None))
    others = [cut for cut in cuts if cut.head is None]
    found: dict[str, Ablation] = {}
    for line in [*lines_of(others), *(dict(one.line) for one in alike.values())]:
        for ablation in parse_kind(line).make(source):
            if ablation.name in wanted:
                found[ablation.name] = ablation
    return found
