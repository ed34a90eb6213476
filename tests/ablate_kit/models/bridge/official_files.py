"""Files of official repositories, made backwards: a small model of transformers gets random
weights, which are saved under the official names, written down in the tests a second time.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.bridge.official.families import family_of
from ablate_kit.models.bridge.to_transformers import to_transformers
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.models.rewriting.conversions import write_bridge
from tests.ablate_kit.hugging_face import config_of

# A pattern and what replaces it, by which one name becomes another.
Renaming = tuple[str, str | Callable[[re.Match[str]], str]]
Change = Callable[[dict[str, Any]], None]
KEPT = ("points_scale", "reg_scale")  # which the configuration tells
PACKED = re.compile(r"(self_attn|encoder_attn)\.([qkv])_proj\.")
LW_DETR_DECODER: list[Renaming] = [  # and RF-DETR's
    (r"^model\.query_feat", "query_feat"),
    (r"^model\.reference_point_embed", "refpoint_embed"),
    (r"^model\.", "transformer."),
    (r"\.self_attn_layer_norm", ".norm1"),
    (r"\.cross_attn_layer_norm", ".norm2"),
    (r"(decoder\.layers\.\d)\.layer_norm", r"\1.norm3"),
    (r"(decoder\.layers\.\d)\.mlp\.fc", r"\1.linear"),
    (r"decoder\.layernorm", "decoder.norm"),
    (r"self_attn\.o_proj", "self_attn.out_proj"),
]


def random_model(config: Mapping[str, Any], scale: float = 1 / 8) -> Any:
    """A model of transformers with weights at random everywhere."""
    from transformers import AutoModelForObjectDetection

    made = config_of(config)
    return at_random(lambda: AutoModelForObjectDetection.from_config(made), scale)


def at_random(make: Callable[[], Any], scale: float = 1 / 8) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = make().eval()
        for name, tensor in made.state_dict().items():
            if tensor.dtype == torch.int64:
                tensor.fill_(7)
            elif tensor.is_floating_point() and not name.endswith(KEPT):
                drawn = torch.randn(tensor.shape)
                tensor.copy_(0.5 + drawn.abs() if name.endswith("_var") else drawn * scale)
    return made


def in_file(model: Any) -> dict[str, Tensor]:
    """Its tensors by the names in its own file, which are not those of the modules."""
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")


def official(state: Mapping[str, Tensor], names: Sequence[Renaming]) -> dict[str, Tensor]:
    """Tensors by their official names: by ``names``, each on what the one before left. Queries,
    keys and values of an attention are one tensor there."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if part := PACKED.search(name):
            if part[2] != "q":
                continue
            thirds = [name.replace(part[0], f"{part[1]}.{one}_proj.") for one in "qkv"]
            tensor = torch.cat([state[one] for one in thirds])
            name = name.replace(part[0], f"{part[1]}.in_proj_")
        for pattern, there in names:
            name = re.sub(pattern, there, name)
        found[name] = tensor
    return found


def packed(tensors: dict[str, Tensor], place: str) -> dict[str, Tensor]:
    """With queries, keys and values, q, k and v at ``place``, as one tensor, qkv."""
    for name in [name for name in tensors if f"{place}.q." in name]:
        thirds = [tensors.pop(name.replace(f"{place}.q.", f"{place}.{one}.")) for one in "qkv"]
        tensors[name.replace(f"{place}.q.", f"{place}.qkv.")] = torch.cat(thirds)
    return tensors


def save(
    path: Path, tensors: Mapping[str, Tensor], told: Mapping[str, Any], change: Change | None
) -> None:
    """A file with the arguments ``told`` of the training script; ``change`` may alter it before."""
    content = {"model": tensors, "args": argparse.Namespace(**told), "epoch": 3}
    if change:
        change(content)
    torch.save(content, path)


def bridged(path: Path, folder: Path, weights: str | None = None, **told: Any) -> tuple[str, ...]:
    """Writes the folder; what was assumed."""
    with open_checkpoint(path, weights) as checkpoint:
        conversion = to_transformers(checkpoint, **told)
        write_bridge(conversion, folder)
    return conversion.model.assumed


def refused(path: Path, message: str, weights: str | None = None, **told: Any) -> None:
    folder = path.parent / "refused"
    with pytest.raises(UserError, match=message) as refusal:
        bridged(path, folder, weights, **told)
    assert "\n" not in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert not folder.exists()


def family(path: Path) -> str:
    with open_checkpoint(path) as checkpoint:
        return family_of(checkpoint)


def computes_the_same(folder: Path, model: Any, *size: int) -> Adapter:
    """The folder's adapter, whose outputs for images of ``size`` are those of ``model``."""
    images = torch.randn(size, generator=torch.Generator().manual_seed(1))
    with open_checkpoint(folder) as checkpoint, torch.no_grad():
        adapter = open_adapter(checkpoint)
        ours, theirs = adapter.forward({"pixel_values": images}), model(pixel_values=images)
    assert torch.equal(ours.logits, theirs.logits)
    assert torch.equal(ours.pred_boxes, theirs.pred_boxes)
    assert ours.logits.std() > 0.01
    return adapter


def opened_by_transformers(folder: Path) -> Any:
    """The folder's model by its own code, without this project."""
    from transformers import AutoModelForObjectDetection

    model = AutoModelForObjectDetection.from_pretrained(folder, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules.")
    return model.eval()


def twice_named_numbers(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """With two numbers under two names; one is whole where the configuration tells it."""
    found["decoder.reg_scale"] = found["decoder.reg_scale"].long()
    both = ("decoder.up", "decoder.reg_scale")
    return found | {f"decoder.{one}": found[one] for one in both}


def anchors_of(model: Any, height: int, width: int) -> dict[str, Tensor]:
    """Of images of so many pixels."""
    strides = model.config.feat_strides
    anchors, valid = model.model.generate_anchors(tuple((height // s, width // s) for s in strides))
    return {"decoder.anchors": torch.where(valid, anchors, torch.inf), "decoder.valid_mask": valid}


def with_silu(head: Any) -> None:
    """Puts SiLU between the layers of a head."""
    first, *others = head.layers
    between = (one for layer in others for one in (nn.SiLU(), layer))
    head.forward = nn.Sequential(first, *between).forward


def arguments(**values: Any) -> Change:
    """With these arguments of the training script besides those in the file."""

    def change(content: dict[str, Any]) -> None:
        content["args"] = argparse.Namespace(**{**vars(content["args"]), **values})

    return change


def no_arguments(content: dict[str, Any]) -> None:
    del content["args"]


def renamed(old: str, new: str) -> Change:
    def change(content: dict[str, Any]) -> None:
        for tensors in _weights(content):
            for name in [name for name in tensors if old in name]:
                tensors[name.replace(old, new)] = tensors.pop(name)

    return change


def without(pattern: str) -> Change:
    def change(content: dict[str, Any]) -> None:
        for tensors in _weights(content):
            for name in [name for name in tensors if re.search(pattern, name)]:
                del tensors[name]

    return change


def put(name: str, tensor: Tensor) -> Change:
    def change(content: dict[str, Any]) -> None:
        for tensors in _weights(content):
            tensors[name] = tensor

    return change


def _weights(content: dict[str, Any]) -> Iterable[dict[str, Tensor]]:
    """All sets of weights in a file: the model's, and their average."""
    yield content["model"]
    if "ema" in content:
        yield content["ema"]["module"]
