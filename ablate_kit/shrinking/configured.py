"""A detector with fewer decoder layers or queries, as it would have been configured, as a file.

What ``ablate knobs`` evaluates. It takes no ablation: of post-norm layers no zero makes one that
hands on its input, but the layers before it are a detector, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.edit.patched_copy import Note
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.frameworks.hugging_face.transformers_adapter import TransformersAdapter
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import HybridAdapter
from ablate_kit.models.model_knobs import Knob
from ablate_kit.models.opening.framework_registry import choose
from ablate_kit.models.rewriting.new_file_content import Content, write_noted
from ablate_kit.shrinking.structures import Turned
from ablate_kit.shrinking.transformers_folder import read_config, write_folder
from detector.checkpoint import layout_of, weights_metadata


@dataclass(frozen=True)
class Fewer:
    """How many decoder layers and queries are left, in place of an ablation; None: all."""

    depth: int | None = None
    queries: int | None = None


@dataclass(frozen=True)
class Configured:
    """The detector so, in memory, and what was turned; ``settings`` are those that changed."""

    adapter: Adapter
    turned: tuple[Turned, ...]
    settings: Mapping[str, Any]


def configured(
    checkpoint: Checkpoint, adapter: Adapter, left: Fewer, model: str | None = None
) -> Configured:
    """The detector with so many decoder layers and queries.

    Raises ``UserError`` where it has no such knob, or not so many.
    """
    chosen = choose(checkpoint, model)
    turn = chosen.framework.knobs
    if turn is None:
        raise UserError(
            f"{checkpoint} is of {chosen.model}, whose decoder layers and queries are not known; "
            "expected the hybrid detector or a Hugging Face model"
        )
    turned = []
    found = adapter
    wanted: tuple[tuple[Knob, int | None], ...] = (("depth", left.depth), ("queries", left.queries))
    for knob, value in wanted:
        if value is None:
            continue
        knobs = turn(found)
        now = knobs.now(knob)
        if not 1 <= value < now:
            raise UserError(f"{knob} is {value}; the detector has {now}, expected fewer")
        found = knobs.configured(knob, value)
        turned.append(Turned(knob, value, now))
    before, after = _settings(adapter), _settings(found)
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    return Configured(found, tuple(turned), changed)


def write_configured(
    checkpoint: Checkpoint, made: Configured, destination: Path, note: Note
) -> None:
    """Writes the detector as the original is written: a file, or a folder with all else that is in
    the original's."""
    adapter = made.adapter
    if isinstance(adapter, HybridAdapter):
        state = adapter.module.state_dict()
        metadata = weights_metadata(adapter.module.config.to_json(), adapter.classes)
        write_noted(Content(layout_of(state), metadata, state.__getitem__), destination, note)
        return
    assert isinstance(adapter, TransformersAdapter)  # noqa: S101 - ``configured`` refuses others
    config = read_config(checkpoint) | dict(made.settings)
    write_folder(checkpoint, destination, _once(adapter.module, checkpoint), config, note)


def _once(module: nn.Module, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors; of those that modules share, under the names that the original file has, where
    the configuration lets the library find the others."""
    named = module.state_dict()
    if not getattr(getattr(module, "config", None), "tie_word_embeddings", False):
        return named
    names: dict[tuple[int, torch.Size], list[str]] = {}
    for name, tensor in named.items():
        names.setdefault((tensor.data_ptr(), tensor.shape), []).append(name)
    kept: set[str] = set()
    for same in names.values():
        kept.update([one for one in same if one in checkpoint.tensors] or same)
    return {name: tensor for name, tensor in named.items() if name in kept}


def _settings(adapter: Adapter) -> dict[str, Any]:
    config = getattr(adapter.module, "config", None)
    values = config.to_dict() if config is not None else {}
    return {name: value for name, value in values.items() if not name.startswith("_")}
