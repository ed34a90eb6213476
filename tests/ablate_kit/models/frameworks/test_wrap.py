"""One's own detector: the file that the docs show, and what is said of mistakes in one."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ablate_kit as ak
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.own_code import framework, user_code_errors
from ablate_kit.models.inference.detect import detect
from ablate_kit.models.opening.open import open_adapter
from tests.ablate_kit.small_sweeps import adapter_of

IMAGE = np.zeros((48, 64, 3), np.uint8)
BOXES, SCORES, LABELS = torch.tensor([[1.0, 2, 30, 40]]), torch.tensor([0.5]), torch.tensor([1])


def test_the_file_of_the_docs(shown: tuple[Path, Path]) -> None:
    code, weights = shown
    assert len(code.read_text().splitlines()) <= 40
    model = ak.load(weights, model=f"python:{code}:build")
    assert model.classes == ("disc", "square", "triangle")
    images = [np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8) for i in (1, 2)]
    found = detect(model.adapter, images)
    with torch.no_grad():
        (one, two) = (model.module(model.adapter._prepare(image)) for image in images)
    # As the file's own functions say, image by image; best first.
    for output, image, result in zip((one, two), images, found, strict=True):
        ((boxes, scores, labels),) = model.adapter._decode(output, [image.shape[:2]])
        order = np.argsort(-scores.numpy(), kind="stable")
        assert np.allclose(result.boxes, boxes.numpy()[order], atol=1e-4)
        assert np.allclose(result.scores, scores.numpy()[order], atol=1e-6)
        assert len(result.labels) == len(labels) == 64
    (cut,) = model.modules("head")
    with model.without(cut):
        assert not model.module.head.weight.any()
    assert model.module.head.weight.any()


def test_two_checkpoints_of_it_are_one_model(shown: tuple[Path, Path]) -> None:
    code, weights = shown
    adapters = []
    for _ in range(2):
        adapters.append(adapter_of(weights, f"python:{code}:build"))
    assert adapters[0].same_model(adapters[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("    net.load_state_dict", '"backbone.0.weight" of the model is not "backbone.0.weight"'),
        ("    return ak.wrap", "build of .*my_detector.py returned a NoneType, which has no mod"),
        ("from torch", r"my_detector.py fails at my_detector.py:\d+: NameError: name 'nn'"),
        ("        self.head =", r"build of .* fails at my_detector.py:\d+: RuntimeError: Error"),
    ],
)
def test_what_is_forgotten(shown: tuple[Path, Path], change: str, message: str) -> None:
    code, weights = shown
    lines = code.read_text().splitlines(keepends=True)
    end = "        pass\n" if "head" in change else ""
    kept = [end if line.startswith(change) else line for line in lines]
    assert kept != lines
    code.write_text("".join(kept))
    with open_checkpoint(weights) as checkpoint, pytest.raises(UserError, match=message):
        open_adapter(checkpoint, f"python:{code}:build")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"),
    ],
)
def test_too_little_memory_is_no_mistake_of_the_code(error: Exception) -> None:
    with pytest.raises(RuntimeError) as found, user_code_errors("decode"):
        raise error
    assert found.value is error


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "names no code; expected python:FILE.py:NAME or python:package.module:NAME"),
        ("x.py", "names no code"),
        ("gone.py:build", "gone.py: no such file"),
        ("gone_package.own:build", "ModuleNotFoundError: No module named 'gone_package'"),
        ("json:dumpz", 'json has no dumpz; did you mean "dump"'),
        ("json:__name__", "__name__ of json is a str; expected a function"),
    ],
)
def test_names_of_code(place: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        framework(place)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize(
    ("normed", "direction"),
    [
        ("nn.utils.parametrizations.weight_norm", "head.parametrizations.weight.original1"),
        ("nn.utils.weight_norm", "head.weight_v"),
    ],
)
def test_a_layer_with_weight_normalization_is_set_to_zero(
    shown: tuple[Path, Path], normed: str, direction: str
) -> None:
    """It divides its direction by the norm: at zero, that is NaN, which is told."""
    code, weights = shown
    layer = "nn.Conv2d(32, 4 + len(NAMES), 1)"
    text = code.read_text()
    assert layer in text
    code.write_text(text.replace(layer, f"{normed}({layer})"))
    torch.save(runpy.run_path(str(code))["MyNet"]().state_dict(), weights)
    model = ak.load(weights, model=f"python:{code}:build")
    (whole,) = model.modules("head")
    with model.without(whole) as module, torch.no_grad():
        assert not module(torch.ones(1, 3, 64, 64)).any()
    (nan,) = model.ablations("component", pattern=direction)
    result = ak.sweep(model, ak.shapes(limit=2), [whole, nan], resamples=0)
    (note,) = (one for one in result.notes if "NaN" in one)
    assert note.startswith(f"{nan.name} gives NaN or infinite numbers in place of all boxes")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile's own imports
@pytest.mark.parametrize("around", ["torch.compile", "nn.DataParallel"])
def test_the_network_within_what_runs_it_is_taken(shown: tuple[Path, Path], around: str) -> None:
    code, weights = shown
    code.write_text(code.read_text().replace("ak.wrap(net", f"ak.wrap({around}(net)"))
    model = ak.load(weights, model=f"python:{code}:build")
    assert type(model.module).__name__ == "MyNet"
    assert list(model.adapter.live_names()) == list(model.module.state_dict())


def test_other_weights_of_the_file_than_those_that_are_taken(shown: tuple[Path, Path]) -> None:
    code, weights = shown
    stored = torch.load(weights, weights_only=True)
    average = {name: tensor + 1 for name, tensor in stored.items()}
    torch.save({"model": stored, "ema": average}, weights)
    code.write_text(
        code.read_text().replace("checkpoint.state_dict()", f"torch.load({str(weights)!r})['ema']")
    )
    with pytest.raises(UserError, match=r'has loaded checkpoint.state_dict\(\), or weights "ema"$'):
        ak.load(weights, model=f"python:{code}:build")
    ak.load(weights, model=f"python:{code}:build", weights="ema")
    code.with_name("half.py").write_text(
        code.read_text().replace("ak.wrap(net", "ak.wrap(net.half()")
    )
    with pytest.raises(UserError, match=r"\(torch.float16, not torch.float32\)"):
        ak.load(weights, model=f"python:{code.with_name('half.py')}:build", weights="ema")


def test_names_that_differ(shown: tuple[Path, Path]) -> None:
    code, weights = shown
    stored = torch.load(weights, weights_only=True)
    torch.save({f"model.{name}": tensor for name, tensor in stored.items()}, weights)
    text = code.read_text().replace(
        "net.load_state_dict(checkpoint.state_dict())",
        "net.load_state_dict({k[6:]: v for k, v in checkpoint.state_dict().items()})",
    )
    code.write_text(text)
    model = f"python:{code}:build"
    message = r'no tensor .* \(such as "model.*say which is which'
    with open_checkpoint(weights) as checkpoint, pytest.raises(UserError, match=message):
        open_adapter(checkpoint, model)
    other = code.with_name("other.py")
    other.write_text(
        text.replace("device=device", "names={f'model.{n}': n for n in net.state_dict()}")
    )
    adapter = adapter_of(weights, f"python:{other}:build")
    assert adapter.live_names()["model.head.bias"] == ("head.bias",)


def found(decoded: Any, prepare: Callable[..., Any] = lambda _: torch.zeros(3, 8, 8)) -> Any:
    adapter = ak.wrap(
        nn.Conv2d(3, 1, 1), classes=["a", "b"], prepare=prepare, decode=lambda *_: decoded
    )
    (one,) = detect(adapter, [IMAGE])
    return one


def test_columns_come_best_first() -> None:
    boxes = BOXES.repeat(3, 1) + torch.arange(3)[:, None]
    one = found([(boxes, torch.tensor([0.1, 0.9, 0.5]), [0, 1, 0], np.array([7, 8, 9]))])
    assert one.scores.tolist() == pytest.approx([0.9, 0.5, 0.1])
    assert one.labels.tolist() == [1, 0, 0]
    assert one.queries is not None
    assert one.queries.tolist() == [8, 9, 7]
    assert one.boxes[:, 0].tolist() == [2, 3, 1]


@pytest.mark.parametrize(
    ("decoded", "message"),
    [
        (None, "decode returned a NoneType; expected a list|decode returned a NoneType for 1"),
        ([], "decode returned a list of 0 for 1 images; expected a list"),
        ([{"boxes": BOXES}], "decode returned a dict for an image; expected boxes"),
        ([None], "decode returned a NoneType for an image; expected boxes"),
        ([(BOXES, SCORES)], "decode returned a tuple for an image"),
        ([(BOXES[0], SCORES, LABELS)], r"shapes \(4,\), \(1,\), \(1,\); expected boxes \(k, 4\)"),
        ([(BOXES, SCORES[:, None], LABELS)], r"shapes \(1, 4\), \(1, 1\), \(1,\)"),
        ([(BOXES, SCORES, LABELS + 1)], "label 2; expected 0 to 1"),
        ([(BOXES, SCORES, LABELS - 2)], "label -1; expected 0 to 1"),
        ([(BOXES, SCORES, LABELS.float())], "labels of float32; expected integers"),
        ([(BOXES, SCORES, LABELS, LABELS[:0])], r"queries of shape \(0,\); expected \(1,\)"),
        ([(BOXES, SCORES * 90, LABELS)], "scores from 45 to 45; expected probabilities"),
        ([(BOXES / 64, SCORES, LABELS)], "coordinates up to 0.625 for an image of 64x48"),
        ([(BOXES[:, [2, 3, 0, 1]], SCORES, LABELS)], "1 of 1 boxes that end before they begin"),
    ],
)
def test_what_came_instead(decoded: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        found(decoded)


@pytest.mark.parametrize(
    ("prepared", "message"),
    [
        (IMAGE, "prepare returned a ndarray; expected a"),
        (torch.zeros(8, 8), r"prepare returned a \(8, 8\) tensor; expected \(3, h, w\)"),
        (torch.zeros(2, 3, 8, 8), r"prepare returned a \(2, 3, 8, 8\) tensor"),
        ({"x": torch.zeros(3, 8, 8)}, r'a \(3, 8, 8\) tensor as "x"; expected a tensor with a fi'),
    ],
)
def test_what_is_no_image(prepared: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        found([(BOXES, SCORES, LABELS)], lambda _: prepared)


def test_units_are_looked_at_before_anything_is_cut_alone() -> None:
    """A cut network may put its boxes anywhere."""
    results = iter([[(BOXES, SCORES, LABELS)], [(BOXES / 64, SCORES, LABELS)]])
    adapter = ak.wrap(
        nn.Conv2d(3, 1, 1),
        classes=["a", "b"],
        prepare=lambda _: torch.zeros(3, 8, 8),
        decode=lambda *_: next(results),
    )
    detect(adapter, [IMAGE])
    (one,) = detect(adapter, [IMAGE])
    assert one.boxes.max() < 1


def test_several_inputs_go_by_name() -> None:
    class Two(nn.Module):
        def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return left - right

    adapter = ak.wrap(
        Two(),
        classes=["a"],
        prepare=lambda image: {"left": torch.ones(1, 2), "right": torch.full((1, 2), 0.25)},
        decode=lambda outputs, sizes: [(BOXES, outputs[0, :1], [0]) for _ in sizes],
    )
    (one,) = detect(adapter, [IMAGE])
    assert one.scores.tolist() == [0.75]


def test_what_is_no_network() -> None:
    with pytest.raises(UserError, match=r"net is a dict; expected a torch.nn.Module"):
        ak.wrap({}, classes=["a"], prepare=lambda _: _, decode=lambda *_: _)
    with pytest.raises(UserError, match="classes are not a list of names"):
        ak.wrap(nn.Linear(1, 1), classes="ab", prepare=lambda _: _, decode=lambda *_: _)
    with pytest.raises(UserError, match='names has "weigth", which is no tensor of the network'):
        ak.wrap(
            nn.Linear(1, 1), classes=["a"], names={"x": "weigth"},
            prepare=lambda _: _, decode=lambda *_: _,
        )  # fmt: skip
