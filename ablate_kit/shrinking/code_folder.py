"""Sizes that no setting of a Hugging Face architecture describes: a folder with code for them.

The code is the library's own class, whose modules get other sizes once they are built. It is a file
of the folder, so that a reader must trust it (``trust_remote_code``), and so short that one can.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ablate_kit.errors import UserError
from ablate_kit.shrinking.config_search import Shapes

MODULE = "modeling_shrunk"
_AUTO = "AutoModelForObjectDetection"
_COUNTS = ("num_heads", "n_heads", "num_attention_heads", "num_head")
_WIDTHS = ("d_model", "embed_dim", "all_head_size")

_CODE = '''"""{base} with modules of other sizes, as ablate shrink wrote it.

config.json lists them under "shrunk": "sizes" are shapes of tensors by their names, "attributes"
are numbers that modules know of themselves, and "heads" are for tools that read the checkpoint.
"""

import torch
from torch import nn

{imported}


class Shrunk{base}({base}):
    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        for name, shape in config.shrunk["sizes"].items():
            path, _, tensor = name.rpartition(".")
            module = self.get_submodule(path)
            before = getattr(module, tensor)
            if tensor in module._parameters:
                empty = torch.empty(shape, dtype=before.dtype, device=before.device)
                setattr(module, tensor, nn.Parameter(empty))
            else:
                module.register_buffer(
                    tensor, torch.zeros(shape, dtype=before.dtype, device=before.device)
                )
            if tensor == "weight" and isinstance(module, nn.Linear):
                module.out_features, module.in_features = shape
            elif tensor == "weight" and isinstance(module, nn.Conv2d):
                if module.groups > 1:  # depthwise
                    module.groups = shape[0]
                module.out_channels, module.in_channels = shape[0], shape[1] * module.groups
            elif tensor == "weight" and isinstance(module, nn.Embedding):
                module.num_embeddings = shape[0]
            elif tensor == "weight" and hasattr(module, "num_features"):
                module.num_features = shape[0]
        for name, values in config.shrunk["attributes"].items():
            for attribute, value in values.items():
                setattr(self.get_submodule(name), attribute, value)
'''


@dataclass(frozen=True)
class Code:
    """What a folder needs beside its weights: a file of code, and what the configuration says."""

    text: str
    settings: Mapping[str, Any]


def code_for(
    module: nn.Module,
    current: Shapes,
    wanted: Shapes,
    heads: Mapping[str, tuple[int, Sequence[str]]],
    auto_map: Mapping[str, Any],
) -> Code:
    """Code for a model whose tensors have the ``wanted`` shapes where its configuration gives the
    ``current`` ones.

    Args:
        module: the model as it was.
        heads: how many are left of each attention module, by its prefix in the checkpoint, and the
            live names of its tensors.
        auto_map: of the configuration, where the folder has code of its own already.

    Raises ``UserError`` where a module cannot be of another size.
    """
    base = type(module)
    imported = _import_of(base, auto_map)
    sizes = {name: list(shape) for name, shape in wanted.items() if shape != current.get(name)}
    for name in sizes:
        _check(name, module, current)
    attributes: dict[str, dict[str, int]] = {}
    for left, names in heads.values():
        for path in _owners(names):
            found = _attributes(module.get_submodule(path), left)
            if found:
                attributes[path] = found
    shrunk = {
        "sizes": sizes,
        "attributes": attributes,
        "heads": {prefix: left for prefix, (left, _) in heads.items()},
    }
    name = f"Shrunk{base.__name__}"
    settings = {
        "architectures": [name],
        "auto_map": {**auto_map, _AUTO: f"{MODULE}.{name}"},
        "shrunk": shrunk,
    }
    return Code(_CODE.format(base=base.__name__, imported=imported), settings)


def _import_of(base: type, auto_map: Mapping[str, Any]) -> str:
    """Where the class is from: the library, or a file of the folder."""
    if base.__module__.startswith("transformers."):
        return f"from transformers import {base.__name__}"
    file, _, name = str(auto_map.get(_AUTO, "")).rpartition(".")
    if name != base.__name__ or not file.isidentifier() or file == MODULE:
        raise UserError(
            f"{base.__name__} is neither a class of transformers nor one that a file of the folder "
            "defines under its own name, so that no code can give it other sizes"
        )
    return f"from .{file} import {name}"


def _check(name: str, model: nn.Module, current: Shapes) -> None:
    if name not in current:
        raise UserError(f"the model of this configuration has no {name}")
    path = name.rpartition(".")[0]
    owner = model.get_submodule(path)
    if isinstance(owner, nn.LayerNorm | nn.GroupNorm):
        raise UserError(
            f"{path} normalizes over its channels: without some of them the others would come out "
            "otherwise"
        )
    groups = owner.groups if isinstance(owner, nn.Conv2d) else 1
    if isinstance(owner, nn.Conv2d) and groups not in (1, owner.out_channels):
        raise UserError(f"{path} has {groups} groups of channels, of which none can be smaller")


def _owners(names: Iterable[str]) -> list[str]:
    """The modules that these tensors are of, and those that these are of."""
    found: dict[str, None] = {}
    for name in names:
        path = name.rpartition(".")[0]
        found |= {path: None, path.rpartition(".")[0]: None}
    return [path for path in found if path]


def _attributes(module: nn.Module, left: int) -> dict[str, int]:
    """What an attention module knows of its heads, with so many of them left."""
    count = next((name for name in _COUNTS if isinstance(getattr(module, name, None), int)), None)
    if count is None:
        return {}
    before = int(getattr(module, count))
    widths = {name: getattr(module, name, None) for name in _WIDTHS}
    smaller = {
        name: value // before * left
        for name, value in widths.items()
        if isinstance(value, int) and value % before == 0
    }
    return {count: left} | smaller
