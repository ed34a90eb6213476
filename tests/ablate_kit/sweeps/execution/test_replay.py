"""Replay gives what the full pass gives, bit for bit, and computes less."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ablate_kit.sweeps.execution.full_checks
from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Blocks, Edit, Random
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.execution.full_checks import FullChecks
from ablate_kit.sweeps.execution.identical import identical
from ablate_kit.sweeps.execution.recorded_output import CachedOutput
from ablate_kit.sweeps.execution.replay import CannotTraceError, Replay
from ablate_kit.sweeps.variants.variant import Variant

from .toy_adapter import Toy


def zero(*tensors: str, name: str = "") -> Ablation:
    return Ablation(name or "-".join(tensors), "test", tuple(Edit(one) for one in tensors))


def both(
    module: nn.Module, ablations: Sequence[Ablation], inputs: Sequence[Tensor], **options: Any
) -> tuple[list[str], list[Any], list[Any]]:
    """The notes, the outputs with replay and those without, each input being a batch."""
    found = []
    notes: list[str] = []
    for replay in (True, False):
        toy = Toy(module)
        variants = [Variant.of(one) for one in ablations]
        outputs: list[Any] = []  # of each variant, batch by batch
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        with VariantExecutor(toy, replay=replay, **options) as passes:
            for one in inputs:
                rows = passes.run([toy.prepare(one)], variants)
                assert len(rows) == len(variants) + 1
                outputs += [row[0] for row in rows]
        notes += passes.notes
        assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
        assert not any("forward" in one.__dict__ for one in module.modules())
        found.append(outputs)
    return notes, *found


def same(one: list[Any], other: list[Any]) -> bool:
    """Whether each variant gave the same outputs in each batch."""
    return list(map(_digest, one)) == list(map(_digest, other))


def _digest(value: Any) -> bytes:
    from torch.utils import _pytree as pytree

    leaves = [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]
    return b"".join(leaf.contiguous().numpy().tobytes() for leaf in leaves)


def inputs(count: int = 2, size: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(4, size, generator=generator) for _ in range(count)]


class Counting(nn.Linear):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        type(self).calls += 1
        return super().forward(x)


class Chain(nn.Module):
    """Three layers, the first called twice, with a parameter used directly between."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = Counting(6, 6)
        self.direct = nn.Parameter(torch.linspace(-1, 1, 6))
        self.middle = nn.Sequential(Counting(6, 6), nn.Tanh(), Counting(6, 6))
        self.last = Counting(6, 3)
        self.unused = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.shared(x)
        x = torch.tanh(x) * self.direct
        x = self.middle(x)
        x = self.shared(x)
        return {"y": self.last(x), "x": x}


def test_only_what_changed_is_computed() -> None:
    torch.manual_seed(0)
    ablations = [
        zero("last.weight"),
        zero("middle.2.bias"),
        zero("direct"),
        zero("shared.weight"),
        zero("unused.weight"),
    ]
    module = Chain()
    notes, replayed, full = both(module, ablations, inputs())
    assert notes == []
    assert same(replayed, full)
    toy = Toy(module)
    calls = []
    for ablation in ablations:
        variants = [Variant.of(ablation)]
        with VariantExecutor(toy, verify=False) as passes:
            passes.run([toy.prepare(inputs()[0])], variants)
            Counting.calls = 0
            passes.run([toy.prepare(inputs()[0])], variants)
        calls.append(Counting.calls - 5)  # less the unmodified pass
    # last; middle.2 and what follows; all but the first call; everything; nothing at all
    assert calls == [1, 3, 4, 5, 0]


class InPlace(nn.Module):
    """Writes into the outputs of its own layers, as residual networks do."""

    def __init__(self, cut: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.cut = cut
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Linear(6, 6)
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.cut(x)
        x += 1.0
        self.relu(x)  # its return value is not used: the effect is on x
        x[:, 0] = y[:, 0]
        z = self.second(x)
        z.view(-1)[3:9].mul_(2.0)
        return self.last(self.relu(z) + x)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).view(1, 2, 3).expand(4, 2, 3),
        torch.arange(24.0).view(4, 6)[:, 1:4],
        torch.arange(24.0).view(2, 3, 4).permute(2, 0, 1),
        torch.arange(24.0).view(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
        torch.tensor(3.0),
        torch.empty(0, 3),
    ],
    ids=["expanded", "slice", "permuted", "channels last", "scalar", "empty"],
)
def test_a_copy_lies_in_memory_as_the_original(tensor: torch.Tensor) -> None:
    """Else another kernel is chosen for it, which rounds otherwise."""
    (copy,) = CachedOutput.of(tensor, copies=True).leaves
    assert torch.equal(copy, tensor)
    assert copy.stride() == tensor.stride()
    assert not tensor.numel() or copy.data_ptr() != tensor.data_ptr()


def test_operations_in_place_do_not_spoil_what_was_recorded() -> None:
    torch.manual_seed(0)
    names = ["last.weight", "second.weight", "cut.weight", "last.bias", "first.bias"]
    ablations = [zero(name) for name in names] + [zero("second.bias", "last.bias")]
    notes, replayed, full = both(InPlace(nn.Linear(6, 6)), ablations, inputs(3))
    assert notes == []
    assert same(replayed, full)


def test_tied_weights_are_used_from_their_first_owner_on() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    module[4].weight = module[0].weight
    notes, replayed, full = both(module, [zero("4.weight"), zero("4.bias")], inputs())
    assert notes == []
    assert same(replayed, full)


class Branching(nn.Module):
    """Which layer comes first depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = (self.a, self.b) if x.mean() > 0 else (self.b, self.a)
        x = torch.tanh(first(x))
        x = second(x) if x.abs().mean() > 0.05 else x
        return self.last(x)


def test_the_way_may_depend_on_values() -> None:
    torch.manual_seed(0)
    up, down = torch.rand(4, 6), -torch.rand(4, 6)
    ablations = [zero("a.weight", "a.bias"), zero("b.weight"), zero("a.weight", "last.bias")]
    notes, replayed, full = both(Branching(), ablations, [up, down, up, down])
    assert notes == []
    assert same(replayed, full)


class Remembering(nn.Module):
    """Leaves something behind that another part reads: what is replayed leaves nothing."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 6)
            self.memo = torch.zeros(())

        def forward(self, x: Tensor) -> Tensor:
            x = self.linear(x)
            self.memo = x.mean()
            return x

    def __init__(self) -> None:
        super().__init__()
        self.part = self.Part()
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.part(x)) + self.part.memo


REMEMBERS = (
    "every variant runs in full: the model cannot be replayed (a module leaves something on "
    "itself, beside its output, that the model reads later)"
)


@pytest.mark.parametrize("memory", [1 << 20, 0])
def test_what_a_pass_leaves_on_modules_is_not_hidden_by_the_checks(memory: float) -> None:
    """The check of ``late`` leaves what ``later`` lacks, on the first batch alone."""
    torch.manual_seed(0)
    later = [zero("last.weight", name=f"later{i}") for i in range(2)]
    ablations = [zero("part.linear.weight"), zero("last.bias", name="late"), *later]
    notes, replayed, full = both(Remembering(), ablations, inputs(3), memory=memory)
    assert notes == [REMEMBERS] if memory else len(notes) == 1
    assert same(replayed, full)


class Hiding(Remembering):
    """A cut of ``gate`` hides what is read."""

    class Noting(Remembering.Part):
        def __init__(self, memory: Any) -> None:
            super().__init__()
            self.memory = memory

        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            if self.memory:
                self.memory[0] = x.mean()
            return x

    def __init__(self, memory: Any) -> None:
        super().__init__()
        self.part = self.Noting(memory)
        self.gate = nn.Linear(6, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.part(x)
        read = self.part.memory[0] if self.part.memory else self.part.memo
        return self.gate(x) * (self.last(x) + read)


@pytest.mark.parametrize("memory", [(), [0], {0: 0}], ids=["attribute", "list", "dictionary"])
def test_a_check_leaves_what_it_found(memory: Any) -> None:
    """That of ``gate.weight`` lies between what changes the memory and what lacks it."""
    torch.manual_seed(0)
    ablations = [zero("part.linear.weight"), zero("gate.weight"), zero("last.bias")]
    notes, replayed, full = both(Hiding(memory), ablations, inputs(3))
    assert notes == [REMEMBERS]
    assert same(replayed, full)


class Aliasing(nn.Module):
    """Writes into a tensor that two of its calls gave: their recorded outputs are two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.same, self.last = nn.Linear(6, 6), nn.Identity(), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.same(x)
        x.relu_()
        return self.last(y)


def test_a_variant_whose_replay_differs_runs_in_full() -> None:
    torch.manual_seed(0)
    ablations = [zero("first.bias"), zero("last.bias", name="late"), zero("last.weight")]
    notes, replayed, full = both(Aliasing(), ablations, inputs(3))
    assert notes[0] == "late runs in full: its replay differs from the full run"
    assert not any("every variant" in note for note in notes)
    assert same(replayed, full)


class RarelyReading(Remembering):
    """Reads what it left behind only of some images."""

    def forward(self, x: Tensor) -> Tensor:
        found = self.last(self.part(x))
        return found + self.part.memo if x.sum() > 0 else found


def test_a_variant_is_checked_again_on_later_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablate_kit.sweeps.execution.full_checks, "AGAIN", 2)
    torch.manual_seed(0)
    batches = [-torch.rand(4, 6), *(torch.rand(4, 6) for _ in range(9))]
    ablations = [zero("part.linear.weight"), zero("last.bias", name="late")]
    notes, replayed, full = both(RarelyReading(), ablations, batches)
    assert notes == [
        REMEMBERS,
        "late was found to differ on a batch that is not its first: what lies between was not "
        "checked; compare with --no-replay",
    ]
    assert same(replayed[-3:], full[-3:])


def test_some_of_those_that_change_the_same_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = Deep()
    rows = [
        Ablation(f"row{i}", "test", (Edit("layers.3.weight", Blocks(0, ((i, i + 1),))),))
        for i in range(6)
    ]
    toy, variants = Toy(module), [Variant.of(one) for one in (*rows, zero("layers.3.bias"))]
    calls = []
    for verify in (False, True):
        with VariantExecutor(toy, verify=verify) as passes:
            Counting.calls = 0
            passes.run([toy.prepare(inputs()[0])], variants)
            calls.append(Counting.calls)
    # Three of the six rows, and the bias, which is another tensor: four passes of four layers.
    assert calls[1] - calls[0] == 4 * 4
    checks = FullChecks(enabled=True)
    asked = [(one, checks.first(one, "rows")) for one in variants[:6]]
    assert all(due for _, due in asked)
    for one in variants[:3]:
        checks.note(one, "rows", equal=True)
    assert not any(checks.first(one, "rows") for one in variants[:6])
    checks.done(variants)
    checks.note(variants[4], "rows", equal=False)  # which a drawn check found
    assert [checks.first(one, "rows") for one in variants[:6]] == [False] * 3 + [True, False, True]
    monkeypatch.setattr(ablate_kit.sweeps.execution.full_checks, "AGAIN", 1)
    drawn = {checks.drawn(variants[:6]) for _ in range(20)}
    assert drawn == {variants[3].digest, variants[5].digest}  # those that never were


def test_what_is_drawn_is_drawn_once_for_all_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    parts, asked = Random.parts, []

    def counted(self: Random, tensor: str, shape: tuple[int, ...]) -> Any:
        asked.append((self.draw, tensor))
        return parts(self, tensor, shape)

    monkeypatch.setattr(Random, "parts", counted)
    torch.manual_seed(0)
    drawn = [
        Ablation(f"draw{draw}", "test", (Edit("last.weight", Random(5, 0, draw)),))
        for draw in range(2)
    ]
    notes, replayed, full = both(Chain(), drawn, inputs(3))
    assert notes == []
    assert same(replayed, full)
    assert asked == [(0, "last.weight"), (1, "last.weight")] * 2  # with replay, and without


class Watched(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        seen = torch.overrides._is_torch_function_mode_enabled()
        return super().forward(x) + (1.0 if seen else 0.0)


def test_a_model_that_behaves_otherwise_when_watched_runs_in_full() -> None:
    torch.manual_seed(0)
    notes, replayed, full = both(Watched(6, 2), [zero("bias")], inputs())
    assert len(notes) == 1
    assert notes[0].startswith("every variant runs in full")
    assert same(replayed, full)


def test_a_compiled_model_runs_in_full() -> None:
    torch.manual_seed(0)
    with pytest.warns((DeprecationWarning, FutureWarning), match="jit"):
        compiled = torch.jit.trace(nn.Linear(6, 2), torch.zeros(1, 6))
    notes, replayed, full = both(nn.Sequential(compiled), [zero("0.bias")], inputs())
    assert notes == [
        "every variant runs in full: the model cannot be replayed (TopLevelTracedModule is "
        "compiled)"
    ]
    assert same(replayed, full)


def test_what_torch_compiles_is_not_watched() -> None:
    by_method, wrapped = nn.Sequential(nn.Linear(6, 2)), nn.Sequential(nn.Linear(6, 2))
    by_method[0].compile(backend="eager")
    wrapped.add_module("1", torch.compile(nn.Linear(2, 2), backend="eager"))
    for model, name in ((by_method, "Linear"), (wrapped, "OptimizedModule")):
        with pytest.raises(CannotTraceError, match=f"{name} is compiled"), Replay(model):
            pass


class Deep(nn.Module):
    def __init__(self, layers: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Counting(6, 6) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


def progressive(layers: int = 4) -> list[Ablation]:
    names = [f"layers.{i}.weight" for i in range(layers)]
    return [zero(*names[: i + 1], name=f"0-{i}") for i in range(layers)]


def test_variants_share_what_they_have_in_common() -> None:
    torch.manual_seed(0)
    module, toy = Deep(), None
    others = [
        zero("layers.1.weight", "layers.3.weight"),
        zero("layers.1.weight", "layers.2.bias"),
        zero("layers.1.weight", "layers.2.bias", "layers.3.bias"),
        zero("layers.1.weight", "layers.2.bias", name="again"),
    ]
    notes, replayed, full = both(module, progressive() + others, inputs())
    assert notes == []
    assert same(replayed, full)
    toy = Toy(module)
    variants = [Variant.of(one) for one in progressive()]
    with VariantExecutor(toy, verify=False) as passes:
        passes.run([toy.prepare(inputs()[0])], variants)
        Counting.calls = 0
        passes.run([toy.prepare(inputs()[0])], variants)
    # The unmodified pass; then layers 0-3 without 0; then 1-3, 2-3 and 3 on top of each other.
    assert Counting.calls == 4 + 4 + 3 + 2 + 1


@pytest.mark.parametrize("memory", [0, 300, 10_000])
def test_little_memory_splits_the_sweep_and_changes_no_bit(memory: int) -> None:
    torch.manual_seed(0)
    ablations = [*progressive(), *(zero(f"layers.{i}.bias") for i in range(4))]
    notes, replayed, full = both(Deep(), ablations, inputs(), memory=memory)
    assert same(replayed, full)
    assert bool(notes) == (memory < 288)  # three outputs of 96 bytes let the last layer run alone


def test_the_same_tensor_changed_differently_is_not_shared() -> None:
    torch.manual_seed(0)
    half = Ablation("half", "test", (Edit("layers.0.weight", Blocks(0, ((0, 3),))),))
    other = Ablation("other", "test", (Edit("layers.0.weight", Blocks(0, ((3, 6),))),))
    late = Ablation("late", "test", (*half.edits, Edit("layers.3.weight")))
    notes, replayed, full = both(Deep(), [half, other, late], inputs())
    assert notes == []
    assert same(replayed, full)


def test_not_a_number_equals_itself() -> None:
    nan = torch.tensor([float("nan"), 1.0])
    assert identical({"a": nan}, {"a": nan.clone()})
    assert not identical(nan, torch.tensor([0.0, 1.0]))
    assert not identical(torch.tensor([0.0]), torch.tensor([-0.0]))


def test_what_replay_keeps_goes_by_names() -> None:
    """So that it may be written to a file."""
    module, x = Chain().eval(), inputs()[0]
    last = ("tensor", "last.weight")

    def run() -> Any:
        return module(x)

    replay = Replay(module)
    with torch.no_grad(), replay:
        _, trace = replay.trace(run)
        assert not trace.outputs
        assert trace.first_use[last] == max(
            v for k, v in trace.first_use.items() if k[0] == "tensor"
        )
        wanted = {call.id for call in trace.root.finished_before(trace.restart([last]))}
        _, base = replay.record(run, wanted)
        assert base.outputs.keys() == wanted
        assert {call.module for call in wanted} <= {name for name, _ in module.named_modules()}
        module.last.weight.zero_()
        Counting.calls = 0
        replayed = replay.replay(run, base, [last])
        assert Counting.calls == 1
        assert identical(replayed, run())
