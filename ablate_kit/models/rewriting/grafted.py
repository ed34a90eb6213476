"""A checkpoint with parts of another: what ``ablate graft`` writes."""

from collections.abc import Sequence

import torch

from ablate_kit.ablations.pretrained_parts import Graft, detector_names, graft
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.digest import digest_of_archive
from ablate_kit.checkpoints.hub import named_by_commit
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import (
    class_names,
    config_and_names,
    is_hybrid,
)
from ablate_kit.models.rewriting.new_file_content import Content
from ablate_kit.models.unsupported.number_types import check_number_types
from ablate_kit.plural import counted
from detector.checkpoint import weights_metadata


def grafted(
    checkpoint: Checkpoint,
    source: Checkpoint,
    parts: Sequence[str],
    rules: Sequence[str],
    *,
    skip_mismatched: bool,
) -> tuple[Graft, Content]:
    """The checkpoint with ``parts`` from ``source``, as ``graft`` does it.

    Both must be open as long as the content is read. Raises ``UserError`` where tensors have
    another shape, unless these are to be skipped, where none is left, and where one holds no
    weights, by the type of its numbers.
    """
    if not is_hybrid(checkpoint):
        raise UserError(f"{checkpoint} is not a hybrid detector")
    config, live = config_and_names(checkpoint)
    own = {ours: name for name, ours in live.items()}
    here = {ours: checkpoint.tensors[name] for ours, name in own.items()}
    renamed = detector_names(source.tensors, config, rules)
    found = graft(here, source.tensors, parts, renamed)
    if found.mismatched and not skip_mismatched:
        name, (ours, theirs) = next(iter(found.mismatched.items()))
        raise UserError(
            f'{counted(len(found.mismatched), "tensor")} of another shape in {source}: "{name}" is '
            f"{theirs} there and {ours} here; give --skip-mismatched to leave them out"
        )
    if not found.loaded:
        raise UserError(
            f"every tensor of {source} has another shape than its place in {checkpoint}"
        )
    check_number_types(source, found.loaded.values())

    def read(name: str) -> torch.Tensor:
        if name in found.loaded:
            return source.read(found.loaded[name]).to(getattr(torch, here[name].dtype))
        return checkpoint.read(own[name])

    layout = {name: (info.dtype, info.shape) for name, info in here.items()}
    classes = checkpoint.classes or class_names(config.num_classes)
    return found, Content(layout, weights_metadata(config.to_json(), classes), read)


def source_of(source: Checkpoint) -> dict[str, str]:
    """How a receipt names the file that a graft took tensors from."""
    return {
        "path": named_by_commit(source.path),
        "sha256": digest_of_archive(source.archive),
        "weights": source.place,
    }
