"""A Hugging Face model with parts taken out: its configuration, and the folder that holds both."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ablate_kit import text as safe
from ablate_kit.ablations.receipt import OPERATIONS, receipt_path
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.digest import sha256
from ablate_kit.checkpoints.edit.folder_copies import copy_others
from ablate_kit.checkpoints.edit.patched_copy import Note
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hugging_face.hf_folder import without_hub
from ablate_kit.models.frameworks.hugging_face.transformers_adapter import (
    TransformersAdapter,
    check_classes,
)
from ablate_kit.models.frameworks.misfit import shapes_of
from ablate_kit.plural import counted
from ablate_kit.shrinking.code_folder import MODULE, code_for
from ablate_kit.shrinking.config_search import Found, Shape, settings_for, with_settings
from ablate_kit.shrinking.reduction import Reduction
from detector.checkpoint import save_tensors
from detector.disk.atomic import new_folder

_WITH_CODE = (
    "Give --with-code for a folder with code that sets sizes module by module, which loads with "
    "--trust-remote-code"
)


def write_folder(
    checkpoint: Checkpoint,
    destination: Path,
    tensors: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    note: Note,
    code: str = "",
) -> None:
    """Writes a folder with these tensors, configuration and code, its receipt, and all else that
    the checkpoint's has."""
    with new_folder(destination) as place:
        copy_others(folder_of(checkpoint), place, list(checkpoint.archive.sources))
        for verb in OPERATIONS:  # the original's own receipt is not this one's
            receipt_path(place, folder=True, verb=verb).unlink(missing_ok=True)
        weights = place / "model.safetensors"
        save_tensors(weights, tensors, {"format": "pt"})
        if code:
            (place / f"{MODULE}.py").write_text(code, encoding="utf-8")
        text = safe.to_json(config, 2) + "\n"
        (place / "config.json").write_text(text, encoding="utf-8")
        receipt = receipt_path(place, folder=True, verb="shrink")
        receipt.write_text(note(sha256(weights)), encoding="utf-8")


def read_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The configuration in the checkpoint's folder."""
    text = (folder_of(checkpoint) / "config.json").read_text(encoding="utf-8")
    values: dict[str, Any] = json.loads(text)
    return values


def folder_of(checkpoint: Checkpoint) -> Path:
    """Raises ``UserError`` where the checkpoint is a file."""
    if checkpoint.folder is None:
        raise UserError(
            f"{checkpoint.path} is a file, whose configuration is elsewhere; give the folder that "
            "holds both"
        )
    return checkpoint.folder


def smaller_folder(
    checkpoint: Checkpoint, adapter: TransformersAdapter, reduction: Reduction, *, with_code: bool
) -> tuple[dict[str, Any], Mapping[str, Any], str]:
    """The configuration of the smaller model, its settings that are other than before, for people
    to read, and code for what no setting describes, which there is only ``with_code``.

    Raises ``UserError`` where the checkpoint is none, or where no configuration of the architecture
    describes what is left.
    """
    check_classes(adapter, "a smaller model")
    folder_of(checkpoint)
    kind, config = type(adapter.module), adapter.module.config
    wanted = _wanted(adapter, reduction)
    live = adapter.live_names()
    heads = {  # that are left of each module, and the live names of its tensors
        prefix: (left, [one for name in names for one in live.get(name, ())])
        for prefix, (left, names) in reduction.heads.items()
    }
    if heads and not with_code:
        prefix, (left, _) = next(iter(heads.items()))
        more = f" (one of {len(heads)} modules)" if len(heads) > 1 else ""
        raise UserError(
            f"{prefix}{more} would have {left} heads: this architecture makes a head as wide as "
            f"the model over the number of heads, so that fewer would be wider. {_WITH_CODE}"
        )
    values = config.to_dict()
    # A setting may give the shapes of fewer heads and mean fewer points or wider heads.
    own = {name for _, names in heads.values() for name in names}
    state = adapter.module.state_dict()
    by_settings = {
        name: tuple(state[name].shape) if name in own else shape for name, shape in wanted.items()
    }
    found = settings_for(values, by_settings, lambda trial: _shapes(kind, config, trial))
    if found.wrong and not with_code:
        raise UserError(_obstacle(found, wanted))
    read = read_config(checkpoint)
    code = None
    if found.wrong or heads:
        auto_map = read.get("auto_map") or {}
        code = code_for(adapter.module, found.shapes, wanted, heads, auto_map)
    shown = {".".join(map(str, path)): value for path, value in found.changes.items()}
    # Lists that the file's configuration leaves out come whole.
    whole = {str(path[0]): values[path[0]] for path in found.changes if len(path) > 1}
    lacking = {key: one for key, one in whole.items() if key not in read}
    smaller = with_settings(read | lacking, found.changes)
    if code is None:
        return smaller, shown, ""
    count = counted(len(code.settings["shrunk"]["sizes"]), "tensor")
    told: dict[str, Any] = {**shown, "sizes of their own": f"{count}, in {MODULE}.py"}
    return smaller | dict(code.settings), told, code.text


def _wanted(adapter: TransformersAdapter, reduction: Reduction) -> dict[str, Shape]:
    """The shapes of the live model's tensors that the smaller one has."""
    shapes = shapes_of(adapter.module)
    live = adapter.live_names()
    left = reduction.shapes()
    for name in (*reduction.gone, *reduction.dropped):
        if not live.get(name):
            raise UserError(
                f"{name} is not a tensor of the model as it is: the library makes others of it "
                "when it loads, so nothing can be taken out of it"
            )
        for there in live[name]:
            if name in reduction.dropped:
                shapes.pop(there, None)
            else:
                shapes[there] = left[name]
    return shapes


def _shapes(kind: Any, config: Any, values: Mapping[str, Any]) -> dict[str, Shape] | None:
    """Of a model of this configuration; None where there is none."""
    try:
        with warnings.catch_warnings(), without_hub(), torch.device("meta"):
            warnings.simplefilter("ignore")
            trial = type(config).from_dict(dict(values))
            return shapes_of(kind(trial))
    except Exception:  # whatever a library raises for settings that do not go together
        return None


def _obstacle(found: Found, wanted: Mapping[str, Shape]) -> str:
    if found.obstacle:
        one = found.obstacle
        return (
            f"no configuration describes what is left: with {one.setting} {one.value}, "
            f"{one.tensor} would have shape {one.would_be} and has {one.wanted}; take as much out "
            f"of every module that this setting is for. {_WITH_CODE}"
        )
    name = found.wrong[0]
    return (
        f"no setting of the configuration makes {name} of shape {wanted.get(name)}: this "
        f"architecture has no such smaller model. {_WITH_CODE}"
    )
