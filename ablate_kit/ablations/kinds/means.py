"""Heads and channels replaced by their mean over reference images, in a checkpoint.

A head whose output is always its mean adds a constant to what its output projection gives. So the
projection's columns of the head become zero, and its bias takes up what the mean would add. A
channel whose value is always its mean needs no weights: they become zero, its bias the mean.

Zero is a value that a network may never have seen at that place; the mean takes away only what the
head or channel says about an image.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import in_float64
from ablate_kit.ablations.attention import Attention
from ablate_kit.ablations.edits import Added, Blocks, Edit, Whole
from ablate_kit.ablations.factors import Factors, of_module
from ablate_kit.ablations.kinds.kind import Count, Kind, KindContext, Naturals, Patterns
from ablate_kit.ablations.name_patterns import spans
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class _Mean:
    """Of each channel, over everything that was shown."""

    total: "Tensor | None" = None  # (channels,)
    count: int = 0

    def add(self, x: "Tensor", channel: int = -1) -> None:
        flat = in_float64(x.detach()).movedim(channel, -1).reshape(-1, x.shape[channel])
        added = flat.sum(0)
        self.total = added if self.total is None else self.total + added
        self.count += len(flat)

    def value(self, name: str) -> "Tensor":
        if self.total is None:
            raise UserError(
                f"the model never calls {name} by itself, so that its mean is not known"
            )
        return (self.total / self.count).cpu()


@dataclass(frozen=True)
class _Output:
    """An attention's output projection in a checkpoint."""

    attention: Attention
    weight: str
    bias: str
    seen: _Mean = field(default_factory=_Mean)


def output_axis(shapes: Mapping[str, Sequence[int]], module: str) -> int:
    """Which axis of a weight a module's output channels are on: the first, or of a transposed
    convolution the second, which the number of biases tells."""
    weight, bias = shapes[f"{module}.weight"], list(shapes.get(f"{module}.bias", ()))
    return int(len(weight) > 2 and bias != [weight[0]] and bias == [weight[1]])


def is_transposed(module: "nn.Module") -> bool:
    """Whether this is a transposed convolution."""
    from torch import nn

    return isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)


def _outputs(attention: Attention) -> Iterator[_Output]:
    if not attention.outputs:
        raise UserError(
            f"{attention.prefix} has no output projection ({' or '.join(attention.layout.output)}) "
            "whose bias could hold a head's mean"
        )
    for name in attention.outputs:
        bias = f"{name.removesuffix('weight')}bias"
        if bias not in attention.tensors:
            raise UserError(f"{attention.name_of(name)} has no bias that could hold a mean")
        yield _Output(attention, attention.name_of(name), attention.name_of(bias))


def _held_mean(one: _Output, head: int, checkpoint: Checkpoint) -> Edit:
    """The bias with what the head's mean would have added."""
    stored = checkpoint.read(one.bias)
    weight, bias = checkpoint.read(one.weight).double().flatten(1), stored.double()
    mean = one.seen.value(one.attention.prefix)
    width = len(mean) // one.attention.head_count()
    own = slice(head * width, (head + 1) * width)
    moved = {f"{one.weight} head {head}": tuple((weight[:, own] @ mean[own]).tolist())}
    added = Added(tuple(bias.tolist()), moved, str(stored.dtype).removeprefix("torch."))
    return Edit(one.bias, values=added.values(), added=added)


def with_parts(ablation: Ablation, checkpoint: Checkpoint) -> Ablation:
    """A head at its mean as a run or a receipt keeps it, with what its mean adds to a bias: then
    several of one module can be joined."""
    if ablation.kind != "heads-mean":
        return ablation
    edits = []
    for edit in ablation.edits:
        shape = checkpoint.shapes.get(edit.tensor, ())
        if edit.values and edit.region == Whole() and shape == (len(edit.values),):
            stored = checkpoint.read(edit.tensor)
            held = stored.double().tolist()
            moved = tuple(x - before for x, before in zip(edit.values, held, strict=True))
            dtype = str(stored.dtype).removeprefix("torch.")
            edit = replace(edit, added=Added(tuple(held), {ablation.name: moved}, dtype))
        edits.append(edit)
    return replace(ablation, edits=tuple(edits))


def _add(mean: _Mean, name: str, module: "nn.Module", _: object, output: "Tensor") -> None:
    mean.add(output, _channel(module, output, name))


def _channel(module: "nn.Module", output: "Tensor", name: str) -> int:
    """Which axis of a module's output its channels are on: the second of a map, else the last."""
    weight = module.get_parameter("weight") if "weight" in dict(module.named_parameters()) else None
    shapes = {f".{key}": tuple(value.shape) for key, value in module.state_dict().items()}
    of_weight = output_axis(shapes, "")
    if is_transposed(module) and of_weight == 0:
        raise UserError(
            f"{name} is a transposed convolution, whose shapes do not tell its output channels"
        )
    count = shapes[".weight"][of_weight]
    if weight is not None and weight.dim() == 2:
        return -1
    on = [axis for axis in (1, output.dim() - 1) if output.shape[axis] == count]
    if not on:
        raise UserError(f"{name} has no output channels that belong to its weight's rows")
    return on[0]


@dataclass(frozen=True, kw_only=True)
class HeadsMean(Kind):
    """Each head of the modules, replaced by its mean over reference images."""

    kind: Literal["heads-mean"] = "heads-mean"
    pattern: str
    num_heads: Count | None = None
    heads: Naturals | None = None  # of each module, one by one; all by default
    images: Count | None = None  # that the mean is taken over

    def make(self, source: KindContext) -> list[Ablation]:
        from ablate_kit.ablations.hooks import hook_projection_input, shown_apart, watch_uncalled

        modules = source.attentions(self.pattern, self.num_heads)
        reference = source.reference()
        outputs = {module.prefix: tuple(_outputs(module)) for module in modules}
        with ExitStack() as stack:
            for one in chain.from_iterable(outputs.values()):
                for name in reference.names_of(one.weight):
                    live, add = reference.module, one.seen.add
                    stack.enter_context(hook_projection_input(live, name, add))
                    stack.enter_context(watch_uncalled(live, name, shown_apart(name, add)))
            reference.run(self.images)
        chosen = None if self.heads is None else sorted(set(self.heads))
        return [
            Ablation(
                f"{module.prefix}-head{head}-mean",
                "heads-mean",
                (
                    *module.remove([head]),
                    *(_held_mean(one, head, source.checkpoint) for one in outputs[module.prefix]),
                ),
                factors=of_module(module.prefix) | {"head": head},
            )
            for module in modules
            for head in (range(module.head_count()) if chosen is None else chosen)
        ]


@dataclass(frozen=True, kw_only=True)
class Channels(Kind):
    """Output channels of modules with a weight and a bias, zero or replaced by their mean."""

    kind: Literal["channels"] = "channels"
    pattern: Patterns
    channels: Naturals | None = None  # of each module; all by default
    together: bool = False  # one variant per module
    to: Literal["zero", "mean"] = "zero"
    images: Count | None = None

    def make(self, source: KindContext) -> list[Ablation]:
        if self.to == "zero" and self.images is not None:
            raise UserError("images go with to: mean; zero is not taken over any")
        shapes = source.checkpoint.shapes
        modules = dict(self._modules(source, shapes))
        means = self._means(source, modules) if self.to == "mean" else {}
        kind, suffix = ("channels-mean", "-mean") if means else ("channels", "")
        found = []
        for module, numbers in modules.items():
            chosen = sorted(set(numbers))
            axis = output_axis(shapes, module)
            for group in [chosen] if self.together else [[one] for one in chosen]:
                ranges = tuple((one, one + 1) for one in group)
                edits = [Edit(f"{module}.weight", Blocks(axis, ranges))]
                if f"{module}.bias" in shapes:
                    values = tuple(means[module][group].tolist()) if means else None
                    edits.append(Edit(f"{module}.bias", Blocks(0, ranges), values=values))
                name = f"{module}-channel{spans(group)}{suffix}"
                which: Factors = (
                    {"channel": group[0]} if len(group) == 1 else {"channels": spans(group)}
                )
                factors: Factors = {**of_module(module), **which, "to": self.to}
                found.append(Ablation(name, kind, tuple(edits), factors=factors))
        return found

    def _means(self, source: KindContext, modules: Iterable[str]) -> "dict[str, Tensor]":
        """For each of these modules the mean (channels,) of its output over images."""
        reference = source.reference()
        seen = {name: _Mean() for name in modules}
        with ExitStack() as stack:
            for name, mean in seen.items():
                for live in reference.names_of(f"{name}.weight"):
                    owner = reference.module.get_submodule(live.rpartition(".")[0])
                    stack.enter_context(owner.register_forward_hook(partial(_add, mean, name)))
            reference.run(self.images)
        # As the checkpoint's tensor holds them, for the same reason as ``Added.values``.
        types = {name: source.checkpoint.read(f"{name}.bias").dtype for name in seen}
        return {name: mean.value(name).to(types[name]).double() for name, mean in seen.items()}

    def _modules(
        self, source: KindContext, shapes: Mapping[str, tuple[int, ...]]
    ) -> Iterator[tuple[str, Sequence[int]]]:
        for module in source.modules(self.pattern):
            if f"{module}.weight" not in shapes:
                raise UserError(f"{module} has no weight of its own whose channels could be cut")
            if self.to == "mean" and f"{module}.bias" not in shapes:
                raise UserError(f"{module} has no bias that could hold a mean")
            count = shapes[f"{module}.weight"][output_axis(shapes, module)]
            for channel in self.channels or ():
                if channel >= count:
                    raise UserError(f"{module} has no channel {channel}; it has {count}")
            yield module, self.channels or range(count)
