"""From a checkpoint to an adapter."""

from pathlib import Path

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.told import tell
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.framework import Request
from ablate_kit.models.frameworks import own_code
from ablate_kit.models.inference.detect import full_float32
from ablate_kit.models.labels.classes import read_class_names
from ablate_kit.models.opening.framework_registry import Chosen, choose
from ablate_kit.models.unsupported.known_elsewhere import refuse_adapter_in_file
from ablate_kit.models.unsupported.number_types import check_number_types, refuse_unreadable
from ablate_kit.models.unsupported.recognized_inside import refuse_if_inside
from ablate_kit.plural import counted

_SHARE = 1 / 3  # of a file's tensors, of which a detector is made to see whether they fit


def open_adapter(
    checkpoint: Checkpoint,
    model: str | None = None,
    *,
    trust_remote_code: bool = False,
    device: str = "cpu",
    class_names: Path | None = None,
) -> Adapter:
    """A detector with the weights of ``checkpoint``.

    Args:
        model: what ``--model`` says (``framework_registry``); by default a folder is a Hugging Face
            one, and a file is recognized by its tensors and its configuration.
        trust_remote_code: may a Hugging Face folder run code of its own, or MMDetection the
            configuration?
        class_names: a file of names for its classes (``read_class_names``), where those it has are
            none or others than the data's.

    That weights are not finite is told (``checkpoints.told``): such a model finds nothing, or what
    nobody can read.

    Raises:
        UserError: the framework is unknown or cannot be told, or the weights do not fit.
    """
    names = read_class_names(class_names) if class_names else None
    chosen = choose(checkpoint, model)
    if not chosen.model.startswith(f"{own_code.NAME}:"):  # one's own code may know how to read them
        check_number_types(checkpoint)
    given = names.names if names else ()
    request = Request(chosen.place, device, trust_remote_code, given)
    with full_float32():
        try:
            adapter = chosen.framework.open(checkpoint, request)
        except UserError:
            if not chosen.model.startswith(f"{own_code.NAME}:"):  # nobody knows what that does
                _explain(checkpoint, chosen, request)
            raise
    _tell_of_nan(adapter, checkpoint)
    if names:
        adapter.classes = names.of(adapter.classes, str(checkpoint.path))
    return adapter


def _explain(checkpoint: Checkpoint, chosen: Chosen, request: Request) -> None:
    """Raises ``UserError`` where it is known why the weights do not fit: what the model misses
    cannot be read, or has an adapter around it, or a beginning of names before it."""

    def opens(inside: Checkpoint) -> bool:
        try:
            chosen.framework.open(inside, request)
        except UserError:
            return False
        return True

    refuse_unreadable(checkpoint)
    refuse_adapter_in_file(checkpoint)
    refuse_if_inside(checkpoint, opens, _SHARE)


def _tell_of_nan(adapter: Adapter, checkpoint: Checkpoint) -> None:
    """Buffers may hold infinity, as masks of attention do."""
    found = {
        name: count
        for name, one in adapter.module.named_parameters()
        if (count := one.numel() - int(one.detach().float().isfinite().sum()))
    }
    for name, one in adapter.module.named_buffers():
        if one.is_floating_point() and (count := int(one.float().isnan().sum())):
            found[name] = count
    if found:
        (name, count), others = next(iter(found.items())), len(found) - 1
        elements = f"{counted(count, 'element')} of {name}"
        more = f", and some of {counted(others, 'more tensor')}," if others else ""
        verb = "are" if count > 1 or others else "is"
        tell(
            f"{checkpoint}: {elements}{more} {verb} NaN or infinite: what this model finds means "
            "nothing"
        )
