"""Modules that were pickled whole: their tensors under the names of ``state_dict()``, as data."""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm
from torch.optim.swa_utils import AveragedModel

from ablate_kit.checkpoints import open_archive, open_checkpoint, weight_sets


class Mixed(nn.Module):
    """Everything that a module's tables may hold, and tensors that ``state_dict()`` leaves out."""

    __slots__ = ("slot",)

    def __init__(self) -> None:
        super().__init__()
        self.slot = torch.ones(3)
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5)
        self.head.weight = self.embed.weight
        self.again = self.head
        self.norm = nn.BatchNorm1d(4)
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(2)), torch.zeros(3)])
        self.named = nn.ParameterDict({"b": torch.ones(1), "a": torch.zeros(1)})
        self.layers = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Identity()])
        self.parts = nn.ModuleDict({"left": nn.Conv2d(1, 2, 3), "right": nn.ReLU()})
        self.register_buffer("kept", torch.arange(3))
        self.register_buffer("left_out", torch.ones(2), persistent=False)
        self.register_buffer("nothing", None)
        self.register_parameter("no_parameter", None)
        self.register_module("no_module", None)
        self.buffer = nn.Buffer(torch.ones(2))
        self.left_out_too = nn.Buffer(torch.ones(2), persistent=False)
        self.attribute = torch.ones(7)
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.decay = nn.Parameter(torch.ones(2))
        self.decay.skip = True
        self.parts["left"].to(memory_format=torch.channels_last)


class Graph(nn.Module):
    """What torch.fx can trace."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(2, 2)
        self.first = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.ones(2))
        self.register_buffer("shift", torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x)) * self.scale + self.shift


def deep() -> nn.Module:
    model: nn.Module = nn.Linear(1, 1)
    for _ in range(100):
        model = nn.Sequential(model)
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mixed": Mixed,
    "half": lambda: Mixed().half(),
    "attention": lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True),
    "attention, separate": lambda: nn.MultiheadAttention(8, 2, bias=False, kdim=4, vdim=6),
    "transformer": lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
    "recurrent": lambda: nn.LSTM(3, 4, 2, bidirectional=True),
    "weight_norm": lambda: nn.Sequential(weight_norm(nn.Linear(3, 2))),
    "spectral_norm": lambda: nn.Sequential(spectral_norm(nn.Linear(3, 2))),
    "torch.fx": lambda: torch.fx.symbolic_trace(Graph()),
    "deep": deep,
    "no module in it": lambda: nn.Linear(2, 3),
}


def check(path: Path, state: dict[str, torch.Tensor], weights: str | None = None) -> None:
    with open_checkpoint(path, weights) as checkpoint:
        assert list(checkpoint.tensors) == list(state)
        for name, tensor in state.items():
            read = checkpoint.read(name)
            assert read.dtype == tensor.dtype
            assert read.stride() == tensor.stride()
            assert torch.equal(read, tensor)
        assert checkpoint.unsupported == {}
        assert checkpoint.alternatives == ()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # the old norms
@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_names_and_values_are_those_of_state_dict(
    build: Callable[[], nn.Module], legacy: bool, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    model = build()
    path = tmp_path / "a.pt"
    torch.save(model, path, _use_new_zipfile_serialization=not legacy)
    check(path, model.state_dict())
    torch.save({"epoch": 3, "model": model}, path, _use_new_zipfile_serialization=not legacy)
    check(path, model.state_dict())


def test_files_of_before_buffers_could_be_left_out(tmp_path: Path) -> None:
    model = nn.BatchNorm1d(3)
    state = model.state_dict()
    del model.__dict__["_non_persistent_buffers_set"]
    torch.save(model, tmp_path / "a.pt")
    check(tmp_path / "a.pt", state)


@pytest.mark.parametrize("protocol", range(1, 6))
def test_every_protocol_of_pickle(protocol: int, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    torch.save(model, tmp_path / "a.pt", pickle_protocol=protocol)
    check(tmp_path / "a.pt", model.state_dict())
    with open_checkpoint(tmp_path / "a.pt") as checkpoint:
        found = [one.class_name for one in checkpoint.modules_above("0.weight")]
        assert found == ["torch.nn.modules.linear.Linear", "torch.nn.modules.container.Sequential"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile's own imports
def test_wrappers_are_taken_off_as_in_a_state_dict(tmp_path: Path) -> None:
    model = Graph()
    for wrapped in (nn.DataParallel(model), AveragedModel(model), torch.compile(model)):
        torch.save({"ema": wrapped}, tmp_path / "a.pt")
        check(tmp_path / "a.pt", model.state_dict())


class Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * 2


class _Pickler(pickle.Pickler):
    """Writes a parametrized module, which its own class refuses."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, nn.Module) and parametrize.is_parametrized(value):
            return type(value).__mro__[1], (1, 1), value.__dict__
        return NotImplemented


def test_parametrizations(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), parametrizations.spectral_norm(nn.Linear(3, 3)))
    parametrize.register_parametrization(model[0], "weight", Doubled())
    writer = ModuleType("writer")
    writer.Pickler = _Pickler
    torch.save(model, tmp_path / "a.pt", pickle_module=writer)
    names = {"0.parametrizations.weight.original", "1.parametrizations.weight.0._u"}
    assert names < model.state_dict().keys()
    check(tmp_path / "a.pt", model.state_dict())


def test_modules_are_weight_sets(tmp_path: Path) -> None:
    one, other = Graph(), Graph().half()
    path = tmp_path / "a.pt"
    torch.save({"model": one, "ema": other, "optimizer": {"state": {}}, "criterion": one}, path)
    with open_archive(path) as archive:
        assert [found.place for found in weight_sets(archive)] == ["model", "ema"]
    with open_checkpoint(path, "ema") as checkpoint:
        state = checkpoint.state_dict()
    assert list(state) == list(other.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in other.state_dict().items())
    torch.save({"model": None, "ema": other}, path)
    check(path, other.state_dict())


def test_what_is_more_than_its_bytes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    model = nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.register_buffer("packed", torch.quantize_per_tensor(torch.ones(4), 1, 0, torch.qint8))
        torch.save(model, path)
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint.tensors) == ["0.weight", "0.bias"]
        lazy = "a parameter that has no values yet"
        assert checkpoint.unsupported == {"packed": "quantized", "1.weight": lazy, "1.bias": lazy}


@pytest.mark.parametrize(
    "names",
    [{0: "cat", 1: "dog"}, ["cat", "dog"], ("cat", "dog")],
    ids=["dictionary", "list", "tuple"],
)
def test_class_names_and_arguments_of_the_model(names: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    model = Graph()
    model.names, model.args = names, {"nheads": 4}
    for tree in (model, {"model": model}, nn.DataParallel(model)):
        torch.save(tree, path)
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.classes == ("cat", "dog")
            assert checkpoint.settings == {"nheads": 4}
    torch.save({"model": Graph(), "names": names, "train_args": {"nheads": 2}}, path)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.classes == ("cat", "dog")
        assert checkpoint.settings == {"nheads": 2}
    model.names = {1: "cat", 2: "dog"}
    torch.save(model, path)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.classes is None


def test_configuration_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    model = Graph()
    for config, told in (
        ({"two_stage": True}, {"two_stage": True}),
        (SimpleNamespace(two_stage=True), {"two_stage": True}),
        ("configs/n.yaml", None),
    ):
        model.config = config
        torch.save({"model": model, "args": {"two_stage": False}}, path)
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.config == told
            assert checkpoint.settings == (told or {"two_stage": False})
