"""A detector's weights as trainers keep them: they run as the plain file does, or a line says what
to give."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.inference.detect import detect
from ablate_kit.models.opening.framework_registry import choose
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.models.opening.runnable import runnable
from tests.ablate_kit.models.bridge import test_official_files as of_detr

pytest.importorskip("transformers")

State = dict[str, Tensor]
IMAGE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


@pytest.fixture
def detr(folders: Callable[[str], Path]) -> Path:
    return folders("detr")


@pytest.fixture
def plain(detr: Path) -> State:
    return load_file(detr / "model.safetensors")


def put_before(beginning: str, state: Mapping[str, Tensor]) -> State:
    return {f"{beginning}{name}": tensor for name, tensor in state.items()}


def found(path: Path, model: str | None, weights: str | None = None) -> Any:
    with open_checkpoint(path, weights) as checkpoint, runnable(checkpoint, model) as one:
        return detect(open_adapter(one, model), [IMAGE])[0]


def same(one: Any, other: Any) -> bool:
    return np.array_equal(one.boxes, other.boxes) and np.array_equal(one.scores, other.scores)


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "a training state": lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 3},
    "Lightning, compiled": lambda state: {
        "pytorch-lightning_version": "2.6",
        "state_dict": put_before("model._orig_mod.", state),
    },
    "data parallelism": lambda state: put_before("module.", state),
    "an average alone": lambda state: {"ema_model": state, "step": 3},
    "Composer": lambda state: {"state": {"model": state}},
    "beside an optimizer, without a name": lambda state: (
        state,
        {"state": dict(enumerate(state.values())), "param_groups": []},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_they_run_as_the_plain_file_does(
    detr: Path, plain: State, tmp_path: Path, layout: str
) -> None:
    torch.save(LAYOUTS[layout](plain), tmp_path / "a.pth")
    assert same(found(tmp_path / "a.pth", f"transformers:{detr}"), found(detr, None))


INSIDE: dict[str, tuple[Callable[[State], Any], str]] = {
    "a training module": (
        lambda state: {"state_dict": put_before("net.", state), "epoch": 3},
        '"net."; give --weights "state_dict.net"',
    ),
    "a student and its teacher": (
        lambda state: {"student": state, "teacher": state},
        '"student." or "teacher."; give --weights "student" or "teacher"',
    ),
    "both in one state": (
        lambda state: {"model": put_before("a.", state) | put_before("b.module.", state)},
        '"a." or "b."; give --weights "model.a" or "model.b"',
    ),
}


@pytest.mark.parametrize("layout", INSIDE)
def test_where_the_model_is_said_the_beginning_of_names_is_told(
    detr: Path, plain: State, tmp_path: Path, layout: str
) -> None:
    put, message = INSIDE[layout]
    torch.save(put(plain), tmp_path / "a.pth")
    with pytest.raises(UserError, match=re.escape(f"under names that begin with {message}")):
        found(tmp_path / "a.pth", f"transformers:{detr}")
    for place in re.findall(r'"([^"]+[^".])"', message.partition("give")[2]):
        assert same(found(tmp_path / "a.pth", f"transformers:{detr}", place), found(detr, None))


def test_weights_that_lack_a_tensor_are_no_detector_inside_either(
    detr: Path, plain: State, tmp_path: Path
) -> None:
    del plain["class_labels_classifier.bias"]
    torch.save({"model": put_before("net.", plain)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="of the model is missing in the file"):
        found(tmp_path / "a.pth", f"transformers:{detr}")


def test_tensors_that_cannot_be_read_are_the_reason(
    detr: Path, plain: State, tmp_path: Path
) -> None:
    name = "class_labels_classifier.weight"
    torch.save({"model": plain | {name: plain[name].to_sparse()}}, tmp_path / "a.pth")
    message = f"(model): '{name}' is sparse, which cannot be read; expected plain tensors"
    for model in (f"transformers:{detr}", None):
        with pytest.raises(UserError, match=re.escape(message)):
            found(tmp_path / "a.pth", model)


def test_an_adapter_is_the_reason(detr: Path, plain: State, tmp_path: Path) -> None:
    torch.save(put_before("base_model.model.", plain), tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"of an adapter of PEFT, .* to run it, merge it"):
        found(tmp_path / "a.pth", f"transformers:{detr}")


def shards(folder: Path, state: State) -> None:
    """As accelerate's ``save_model`` writes them: without a configuration."""
    names = list(state)
    places = {name: f"part-{n % 2}.safetensors" for n, name in enumerate(names)}
    for file in set(places.values()):
        own = {name: state[name].contiguous() for name in names if places[name] == file}
        save_file(own, folder / file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_a_folder_without_a_configuration_is_of_what_its_tensors_tell(
    detr: Path, plain: State, tmp_path: Path
) -> None:
    of_detr.write(tmp_path / "official.pth", "detr", of_detr.no_arguments)
    state = torch.load(tmp_path / "official.pth")["model"]
    (tmp_path / "official").mkdir()
    shards(tmp_path / "official", state)
    assert same(found(tmp_path / "official", None), found(tmp_path / "official.pth", None))

    (tmp_path / "hf").mkdir()
    shards(tmp_path / "hf", plain)
    assert same(found(tmp_path / "hf", f"transformers:{detr}"), found(detr, None))
    message = r"hf without config\.json is of no framework .* give --model transformers:FOLDER"
    with open_checkpoint(tmp_path / "hf") as one, pytest.raises(UserError, match=message):
        choose(one)


def test_a_detector_with_masks_is_opened_without_or_says_how(
    detr: Path, plain: State, tmp_path: Path
) -> None:
    def folder(name: str, state: State) -> Path:
        made = Path(shutil.copytree(detr, tmp_path / name))
        save_file(state | {"mask_head.weight": torch.ones(2)}, made / "model.safetensors")
        config = json.loads((made / "config.json").read_text())
        config["architectures"] = ["DetrForSegmentation"]
        (made / "config.json").write_text(json.dumps(config))
        return made

    inside = folder("inside", put_before("detr.", plain))
    with pytest.raises(UserError, match=r'begin with "detr\."; give --weights "detr"$'):
        found(inside, None)
    assert same(found(inside, None, "detr"), found(detr, None))
    message = (
        "no place in the model; the folder is of DetrForSegmentation: DetrForObjectDetection."
        "from_pretrained(FOLDER).save_pretrained(NEW) keeps the detector alone"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        found(folder("beside", plain), None)
