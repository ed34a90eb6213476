"""What a command that cuts would change, before it does."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ablate_kit.plural import counted
from ablate_kit.reports.table import Table, shape_text

if TYPE_CHECKING:
    from ablate_kit.ablations.ablation import Ablation
    from ablate_kit.checkpoints import Checkpoint


def plan(checkpoint: "Checkpoint", targets: "Mapping[Path, Ablation]") -> str:
    """One line per tensor and variant: shape, type, elements that are set, bytes of these."""
    rows = []
    written = 0
    for path, ablation in targets.items():
        counts: dict[str, int] = {}
        for edit in ablation.edits:
            shape = checkpoint.tensors[edit.tensor].shape
            counts[edit.tensor] = counts.get(edit.tensor, 0) + edit.region.count(shape)
        for number, (name, count) in enumerate(counts.items()):
            info = checkpoint.tensors[name]
            rows.append(
                (
                    "" if number else str(path),
                    name,
                    shape_text(info.shape),
                    info.dtype,
                    f"{count:,}",
                    f"{count * info.itemsize:,}",
                )
            )
        written += sum(source.size for source in checkpoint.archive.sources.values())
    header = ("variant", "tensor", "shape", "dtype", "elements", "bytes")
    table = Table("", header, tuple(rows), ("variant", "tensor", "dtype")).text()
    size = f"{written / 1e6:,.2f} MB"
    copies = counted(len(targets), "copy", "copies")
    return f"{table}\ndry run: nothing written; {copies} of {size} in all would be"
