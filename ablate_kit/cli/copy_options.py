"""The options and the output of commands that write changed copies of a checkpoint."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ablate_kit.cli.common_options import Download, DryRun, Weights, output_to
from ablate_kit.cli.output import print_json, say, say_lines, warn
from ablate_kit.plural import counted, first_few

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ablate_kit.ablations.ablation import Ablation
    from ablate_kit.ablations.kinds.kind import Kind
    from ablate_kit.checkpoints import Checkpoint
    from ablate_kit.checkpoints.tensors import TensorInfo

SourceArgument = Annotated[Path, Argument(help="A file, or a Hugging Face folder.")]
Folder = Annotated[Path, output_to("Folder for the variants; a file for one alone.")]

_TWINS = 5  # tensors of which the copies are named


@dataclass(frozen=True, kw_only=True)
class CopyOptions:
    """Which weights are cut, and what is said of the copies."""

    weights: Weights = None
    as_json: Annotated[bool, Option("--json", help="Print what was written as JSON.")] = False
    dry_run: DryRun = False
    allow_download: Download = False

    def open(self, checkpoint: Path) -> "AbstractContextManager[Checkpoint]":
        from ablate_kit.checkpoints import open_checkpoint

        return open_checkpoint(checkpoint, self.weights)

    def write_all_of(self, kind: "Kind", checkpoint: Path, output: Path) -> None:
        """A copy for each ablation of a kind that needs no images."""
        from ablate_kit.ablations.kinds.kind import KindContext
        from ablate_kit.models.opening.framework_registry import anatomy_of

        with self.open(checkpoint) as opened:
            source = KindContext(opened, anatomy=anatomy_of(opened))
            self.write(opened, kind.make(source), output)

    def write(self, checkpoint: "Checkpoint", ablations: "list[Ablation]", output: Path) -> None:
        """A copy for each ablation, named after it, in the folder ``output``."""
        from ablate_kit.ablations.variant_files import variant_paths

        self.write_to(checkpoint, variant_paths(checkpoint, ablations, output))

    def write_to(self, checkpoint: "Checkpoint", targets: "dict[Path, Ablation]") -> None:
        from ablate_kit.ablations.apply_edits import elements_changed
        from ablate_kit.ablations.variant_files import check_free, write_variants

        if self.dry_run and not self.as_json:
            from ablate_kit.reports.checkpoint_reports.dry_run import plan

            check_free(checkpoint, targets)
            say_lines(plan(checkpoint, targets))
            _say_shared(checkpoint, targets)
            warn_of_twins(checkpoint, targets)
            return
        if self.dry_run:
            check_free(checkpoint, targets)
        else:
            write_variants(checkpoint, targets)
        warn_of_twins(checkpoint, targets)
        if self.as_json:
            print_json(
                [
                    {
                        "path": str(path),
                        "elements": elements_changed(one, checkpoint.shapes),
                        "ablation": one.to_dict(),
                    }
                    for path, one in targets.items()
                ]
            )
            return
        for path, one in targets.items():
            tensors = len({edit.tensor for edit in one.edits})
            count = elements_changed(one, checkpoint.shapes)
            say(f"{path}  {counted(count, 'element')} of {counted(tensors, 'tensor')} set")
        _say_shared(checkpoint, targets)


def _say_shared(checkpoint: "Checkpoint", targets: "dict[Path, Ablation]") -> None:
    """Names the tensors that change too, because they are the same bytes."""
    noted = set()
    for one in targets.values():
        edited = dict.fromkeys(edit.tensor for edit in one.edits)
        for name in edited:
            others = [other for other in checkpoint.sharing(name) if other not in edited]
            if others and name not in noted:
                noted.add(name)
                say(f"{name} shares its bytes with {', '.join(others)}: changed together")


def _place(info: "TensorInfo") -> tuple[object, int]:
    return info.storage, info.offset


def warn_of_twins(checkpoint: "Checkpoint", targets: "Mapping[Path, Ablation]") -> None:
    """Names the equal copies of what is cut that stay as they are."""
    from ablate_kit.checkpoints.tied_copies import tied_copies

    tensors = checkpoint.tensors
    known = tied_copies(checkpoint, {edit.tensor for one in targets.values() for edit in one.edits})
    left: dict[str, list[str]] = {}
    for one in targets.values():
        names = dict.fromkeys(edit.tensor for edit in one.edits if edit.tensor in known)
        changed = {_place(tensors[edit.tensor]) for edit in one.edits}
        spared: dict[int, list[str]] = {}  # by the list of equal ones
        for name in names:
            equal = known[name]
            if id(equal) not in spared:
                spared[id(equal)] = [key for key in equal if _place(tensors[key]) not in changed]
            if spared[id(equal)]:
                left.setdefault(name, spared[id(equal)])
    notes = [
        f"{name} has equal copies that are not cut with it: {first_few(others, 3)}"
        for name, others in left.items()
    ]
    warn(notes[:_TWINS])
    if len(notes) > _TWINS:
        warn([f"{len(notes) - _TWINS} more tensors have equal copies that are not cut with them"])
