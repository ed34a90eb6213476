"""``ablate shrink``: a checkpoint without what an ablation zeroes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.receipt import Receipt
from ablate_kit.ablations.variant_files import check_base, check_suffix, note_as_told
from ablate_kit.ablations.verify_receipt import Check, exists, original
from ablate_kit.checkpoints import Checkpoint, open_checkpoint
from ablate_kit.checkpoints.edit.patched_copy import Note
from ablate_kit.checkpoints.hub import is_hub_id
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.frameworks.hugging_face.transformers_adapter import TransformersAdapter
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import (
    HybridAdapter,
    config_and_names,
)
from ablate_kit.models.opening.framework_registry import anatomy_of
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.models.rewriting.new_file_content import note_for, write_noted
from ablate_kit.shrinking.channels import take_channels
from ablate_kit.shrinking.configured import Fewer, configured, write_configured
from ablate_kit.shrinking.equality import OutputAgreement, agreement
from ablate_kit.shrinking.hybrid_file import content_of
from ablate_kit.shrinking.hybrid_parts import take_parts
from ablate_kit.shrinking.reduction import Reduction
from ablate_kit.shrinking.remove_heads import take_heads
from ablate_kit.shrinking.remove_hidden_units import take_hidden_units
from ablate_kit.shrinking.structures import RemovedQueries, Structure
from ablate_kit.shrinking.transformers_folder import smaller_folder, write_folder
from ablate_kit.shrinking.zeroed import Zeroed, zeroed
from detector.data.dataset import Dataset
from detector.disk.atomic import new_together
from detector.errors import check_can_write

SHRINK = "shrink"


@dataclass(frozen=True)
class Shrunk:
    """What was written.

    Attributes:
        structures: what is taken out.
        left_over: elements by tensor that are zero and still there.
        settings: of the configuration that are other than before.
        own_code: whether it is a folder with code, which loads with trust in that.
    """

    structures: tuple[Structure, ...]
    left_over: Mapping[str, int]
    settings: Mapping[str, Any]
    agreement: OutputAgreement
    own_code: bool = False


def shrink(
    checkpoint: Checkpoint,
    wanted: Ablation | Fewer,
    destination: Path,
    *,
    leave: bool = False,
    with_code: bool = False,
    adapter: Adapter | None = None,
    dataset: Dataset | None = None,
    model: str | None = None,
    trust_remote_code: bool = False,
    judge: Callable[[Shrunk, Path], None] | None = None,
) -> Shrunk:
    """Writes the checkpoint without what an ablation zeroes, after a look at what it computes.

    Args:
        leave: what cannot be taken out stays, as zeros; by default that is refused.
        with_code: a Hugging Face folder may get code for sizes that no setting describes.
        adapter: the original, where it is open already.
        dataset: images on which outputs are compared; random ones by default.
        judge: looks at the smaller checkpoint, where it lies; what it raises leaves nothing
            written.

    Raises:
        UserError: nothing is zeroed that can be taken out, or more than that; no configuration
            describes what is left; or its outputs are others. Nothing is written then.
    """
    adapter = adapter or open_adapter(checkpoint, model, trust_remote_code=trust_remote_code)
    made = plan(checkpoint, adapter, wanted, leave=leave, with_code=with_code, model=model)
    check_suffix(made.form, destination)
    check_can_write(destination)
    ablation = wanted if isinstance(wanted, Ablation) else None
    left = wanted if isinstance(wanted, Fewer) else Fewer()
    settings = {
        "ablation": ablation.to_dict() if ablation else {},
        "leave": leave,
        "with_code": with_code,
        "depth": left.depth or 0,
        "queries": left.queries or 0,
    }
    note = note_for(checkpoint, SHRINK, settings)
    with new_together([destination]) as places:
        written = places[destination]
        made.write(written, note)
        with open_checkpoint(written) as smaller:
            trust = trust_remote_code or made.own_code
            opened = open_adapter(smaller, model, trust_remote_code=trust)
            agreed = agreement(made.reference, ablation, opened, dataset)
        parts = tuple(made.reduction.structures)
        done = Shrunk(parts, made.left_over, made.settings, agreed, made.own_code)
        if judge:
            judge(done, written)
    return done


@dataclass(frozen=True)
class ShrinkPlan:
    """What is taken out, and how the rest is written.

    Attributes:
        reference: what computes the same, with the ablation where there is one.
        form: of what is written.
        own_code: whether there is code in it that is ours.
    """

    reference: Adapter
    reduction: Reduction
    left_over: Mapping[str, int]
    settings: Mapping[str, Any]
    form: Any
    write: Any
    own_code: bool = False


def resizable(checkpoint: Checkpoint, adapter: Adapter) -> HybridAdapter | TransformersAdapter:
    """The adapter; raises ``UserError`` for a model that nothing here can build in another size."""
    if not isinstance(adapter, HybridAdapter | TransformersAdapter):
        raise UserError(
            f"{checkpoint.path} is of a framework whose models cannot be built smaller here; "
            "those of the hybrid detector and Hugging Face folders can; how code of your own does "
            "that, and compares it: docs/your-own-detector.md"
        )
    return adapter


def plan(
    checkpoint: Checkpoint,
    adapter: Adapter,
    wanted: Ablation | Fewer,
    *,
    leave: bool,
    with_code: bool = False,
    model: str | None = None,
) -> ShrinkPlan:
    """What ``shrink`` would write; raises ``UserError`` like it, but for its comparison."""
    if isinstance(wanted, Fewer):
        made = configured(checkpoint, adapter, wanted, model)
        form = "safetensors" if isinstance(made.adapter, HybridAdapter) else "folder"
        reduction = Reduction(checkpoint.tensors, Zeroed({}, {}), list(made.turned))
        write = partial(write_configured, checkpoint, made)
        return ShrinkPlan(made.adapter, reduction, {}, made.settings, form, write)
    known = resizable(checkpoint, adapter)
    reduction = reduce(checkpoint, adapter, wanted)
    left_over = reduction.left_over()
    if not reduction.structures:
        shown = f"; {_counted(left_over)}" if left_over else ""
        raise UserError(
            reduction.why_not
            or f'"{wanted.name}" zeroes no whole head, hidden unit, query, branch, layer or '
            f"channel that could be taken out{shown}"
        )
    if left_over and not leave:
        raise UserError(
            reduction.why_not
            or f'not all that "{wanted.name}" zeroes can be taken out: {_counted(left_over)} would '
            "still be there. --leave keeps them, as zeros"
        )
    if isinstance(known, HybridAdapter):
        content, smaller = content_of(checkpoint, reduction)
        before = config_and_names(checkpoint)[0].to_dict()
        settings = {k: v for k, v in smaller.to_dict().items() if v != before[k]}
        write_file = partial(write_noted, content)
        return ShrinkPlan(adapter, reduction, left_over, settings, "safetensors", write_file)
    config, changes, code = smaller_folder(checkpoint, known, reduction, with_code=with_code)

    def write_smaller(destination: Path, note: Note) -> None:
        tensors = reduction.tensors_left(checkpoint)
        write_folder(checkpoint, destination, tensors, config, note, code)

    return ShrinkPlan(known, reduction, left_over, changes, "folder", write_smaller, bool(code))


def reduce(checkpoint: Checkpoint, adapter: Adapter, ablation: Ablation) -> Reduction:
    """All that can be taken out of a model with what ``ablation`` makes zero."""
    tensors = checkpoint.tensors
    reduction = Reduction(tensors, zeroed(ablation, tensors))
    if isinstance(adapter, HybridAdapter):
        take_parts(reduction, adapter.module.config)
    modules = attentions(
        tensors,
        checkpoint.settings,
        modules=checkpoint.modules_above,
        anatomy=anatomy_of(checkpoint),
    )
    take_heads(reduction, modules)
    take_hidden_units(reduction)
    _take_queries(reduction)
    try:
        take_channels(reduction, ablation, adapter)
    except UserError as error:
        reduction.why_not = str(error)
    return reduction


def _take_queries(reduction: Reduction) -> None:
    """Takes out the rows that the ablation takes away.

    Raises ``UserError`` where none would be left.
    """
    taken = reduction.zeroed.rows
    for table, rows in taken.items():
        count = reduction.tensors[table].shape[0]
        if len(rows) >= count:
            raise UserError(f"{table} would have no row left of {count}")
        reduction.take(table, 0, rows)
    if taken:
        table, rows = next(iter(taken.items()))
        reduction.structures.append(RemovedQueries(rows, reduction.tensors[table].shape[0]))


def recreate(checkpoint: Checkpoint, receipt: Receipt, destination: Path) -> None:
    """Writes what the ``receipt`` of a smaller copy tells of, bit for bit, with its receipt.

    Raises ``UserError`` where ``checkpoint`` is not what it was made from, and where the copy comes
    out different, which is then removed.
    """
    check_base(checkpoint, receipt)
    settings, adapter = receipt.settings, open_adapter(checkpoint)
    wanted: Ablation | Fewer = Fewer(settings["depth"] or None, settings["queries"] or None)
    if settings["ablation"]:
        wanted = Ablation.from_dict(settings["ablation"])
    leave, with_code = settings["leave"], settings["with_code"]
    made = plan(checkpoint, adapter, wanted, leave=leave, with_code=with_code)
    check_suffix(made.form, destination)
    check_can_write(destination)
    made.write(destination, note_as_told(receipt))


def verify_smaller(receipt: Receipt, base: Path | None = None) -> Check:
    """Whether the original, without what the receipt says, gives the same bytes; unknown where the
    original does not open here, as one that runs its own code."""
    path = base or Path(receipt.base_path)
    if exists(str(path)) or is_hub_id(path):
        try:
            with open_checkpoint(path, receipt.weights or None) as opened:
                open_adapter(opened)
        except UserError as error:
            return Check("original", None, f"not made again: {error}")
    return original(receipt, base, recreate)


def _counted(left_over: Mapping[str, int]) -> str:
    parts = [f"{count:,} elements of {name}" for name, count in left_over.items()]
    more = f" and of {len(parts) - 3} more tensors" if len(parts) > 3 else ""
    return f"{', '.join(parts[:3])}{more}"
