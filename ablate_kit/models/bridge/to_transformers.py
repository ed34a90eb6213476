"""A checkpoint of another framework as a Hugging Face folder that computes the same."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ablate_kit import text as safe
from ablate_kit.ablations.receipt import receipt_path
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.digest import sha256
from ablate_kit.checkpoints.edit.patched_copy import Note
from ablate_kit.errors import UserError
from ablate_kit.models.architectures.bundled import bundled
from ablate_kit.models.bridge.counterpart import Counterpart
from ablate_kit.models.bridge.mmdetection.mmdet_counterpart import (
    has_configuration,
    mmdet_counterpart,
)
from ablate_kit.models.bridge.name_rules import TensorOrigin, matches, origins
from ablate_kit.models.bridge.official.families import FAMILIES, family_of
from ablate_kit.models.bridge.official.told_by_file import Told
from ablate_kit.models.labels.classes import ClassNames
from ablate_kit.models.unsupported.known_elsewhere import GUIDE, OWN, refuse_known_elsewhere
from ablate_kit.models.unsupported.number_types import check_number_types, refuse_unreadable
from ablate_kit.models.unsupported.recognized_inside import refuse_if_inside
from detector.disk.atomic import new_folder

NAMES = "original_names.json"
# What counting FLOPs (thop) leaves in modules.
_COUNTED = tuple(f"{place}total_{what}" for place in ("", "{any}.") for what in ("ops", "params"))


@dataclass(frozen=True)
class Bridge:
    """How a checkpoint becomes a Hugging Face folder.

    ``placed`` says where each tensor of the folder comes from. ``dropped`` are the tensors of the
    file that compute nothing, and ``tied`` those that repeat a head which the model has once.
    ``heads``, ``classes`` and ``arguments`` are what ``to_transformers`` was told.
    """

    checkpoint: Checkpoint
    model: Counterpart
    placed: Mapping[str, TensorOrigin]
    dropped: tuple[str, ...]
    tied: tuple[str, ...]
    heads: int | None = None
    classes: ClassNames | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """What its receipt says of it."""
        settings: dict[str, Any] = {"to_legacy": False, "format": "transformers"}
        if self.heads is not None:
            settings["heads"] = self.heads
        if self.classes is not None:
            settings |= {"classes": list(self.classes.names), "by_id": self.classes.by_id}
        if self.arguments:
            settings["arguments"] = dict(self.arguments)
        return settings

    def write(self, folder: Path, note: Note) -> None:
        """Writes ``folder``, with a receipt inside, and a list of where each tensor is from."""
        tensors = _tensors(self.checkpoint, self.placed)
        tensors |= {name: torch.zeros(length) for name, length in self.model.biases.items()}
        with new_folder(folder) as place:
            weights = place / "model.safetensors"
            save_file(tensors, weights, metadata={"format": "pt"})
            _write(place / "config.json", self.model.config)
            if own := bundled(self.model.config):
                for name, source in own.sources().items():
                    (place / name).write_text(source, encoding="utf-8")
            _write(place / "preprocessor_config.json", self.model.processor)
            _write(place / NAMES, {name: str(one) for name, one in self.placed.items()})
            receipt = receipt_path(place, folder=True, verb="convert")
            receipt.write_text(note(sha256(weights)), encoding="utf-8")


def to_transformers(
    checkpoint: Checkpoint,
    *,
    heads: int | None = None,
    classes: ClassNames | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Bridge:
    """No framework is needed: an official file's tensors tell what the model is, and that of
    MMDetection holds its configuration. Where transformers is installed, it says whether they fit.

    Args:
        heads: of each attention, for an official file that does not tell.
        classes: of the outputs, for an official file that does not tell.
        arguments: of its training script, for an official file that does not tell.

    Raises ``UserError`` where it cannot be told, where the model has no exact counterpart, and
    where tensors are missing, or of other shapes or types of numbers than their model's.
    """
    family = family_of(checkpoint)
    try:
        return _bridge(checkpoint, family, heads, classes, arguments)
    except UserError as error:
        if str(checkpoint.path) in str(error):
            raise
        of = f" is of {family}" if family else ""
        raise UserError(f"{checkpoint}{of}: {error}") from None


def _bridge(
    checkpoint: Checkpoint,
    family: str,
    heads: int | None,
    classes: ClassNames | None,
    arguments: Mapping[str, Any] | None,
) -> Bridge:
    if family or has_configuration(checkpoint):
        check_number_types(checkpoint)
    if family:
        model = FAMILIES[family].counterpart(Told(checkpoint, heads, classes, arguments))
    elif heads or classes or arguments:
        raise UserError(
            f"{checkpoint} is of none of the repositories whose files take --num-heads, --set or "
            f"--class-names ({', '.join(FAMILIES)})"
        )
    elif has_configuration(checkpoint):
        model = mmdet_counterpart(checkpoint)
    else:
        refuse_unreadable(checkpoint)
        refuse_if_inside(checkpoint, lambda one: bool(family_of(one)))
        from ablate_kit.models.frameworks.torchvision_builds import looks_like_one

        if looks_like_one(checkpoint.tensors):
            raise UserError(
                f"{checkpoint} is of torchvision, whose detectors transformers lacks; commands "
                "that run a model take it as it is"
            )
        refuse_known_elsewhere(checkpoint)
        raise UserError(
            f"{checkpoint} carries no configuration of MMDetection that can be read, and is no "
            "file of an official repository that is converted (docs/official.md), so nothing tells "
            "what its tensors compute"
        )
    model = replace(model, dropped=(*model.dropped, *_COUNTED))
    placed = origins(checkpoint.tensors, model.rules, model.dropped, _if_foreign(family))
    used = {one.source for one in placed.values()}
    unused = [name for name in checkpoint.tensors if name not in used]
    dropped = tuple(name for name in unused if matches(name, model.dropped))
    tied = tuple(name for name in unused if name not in dropped)
    conversion = Bridge(checkpoint, model, placed, dropped, tied, heads, classes, arguments or {})
    _refuse_misfit(conversion, _if_foreign(family))
    return conversion


def _if_foreign(family: str) -> str:
    """What can be done with a file that has more tensors than those of its repository."""
    if not family:
        return ""
    made = f"if the file is of code that was made of {family}"
    return f"; {made}, that runs with --model {OWN} ({GUIDE})"


def _refuse_misfit(conversion: Bridge, if_foreign: str) -> None:
    """By what transformers says, where it is installed: names alone do not tell of a layer that is
    missing at the end of a stack, or of a tensor of another shape."""
    # By which no command that needs none waits.
    from ablate_kit.models.frameworks.hugging_face.loading_report import refuse_misfit, report_of

    path, placed = conversion.checkpoint.path, conversion.placed
    shapes: dict[str, tuple[int, ...]] = {
        name: (length,) for name, length in conversion.model.biases.items()
    }
    for name, one in placed.items():
        shape = tuple(conversion.checkpoint.tensor(one.source).shape)
        shapes[name] = (shape[0] // one.parts, *shape[1:]) if shape else ()
    if report := report_of(conversion.model.config, shapes, path):
        newer = f"a newer transformers than {version('transformers')}, which has other names"
        if_renamed = f"; if the file is whole, take {newer}"
        refuse_misfit(
            report, path, lambda name: str(placed.get(name, name)), if_renamed, if_foreign
        )


def _tensors(checkpoint: Checkpoint, placed: Mapping[str, TensorOrigin]) -> dict[str, torch.Tensor]:
    found = {}
    for name, one in placed.items():
        tensor = checkpoint.read(one.source)
        if one.parts > 1:
            rows = len(tensor) if tensor.ndim else 1
            if rows % one.parts:
                raise UserError(
                    f'"{one.source}" has {rows} rows; expected a multiple of {one.parts}'
                )
            tensor = tensor.chunk(one.parts)[one.part]
        # A part may not hold on to the memory of the whole.
        found[name] = tensor.clone().contiguous()
    return found


def _write(path: Path, values: Any) -> None:
    path.write_text(safe.to_json(values, 2) + "\n", encoding="utf-8")
