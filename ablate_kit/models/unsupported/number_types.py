"""Whether the numbers of a file can be a model's weights, by their type."""

from collections.abc import Collection

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.pickle.unresolved import show
from ablate_kit.errors import UserError
from ablate_kit.models.unsupported.known_elsewhere import OWN

_OWN_CODE = f"with your own code: --model {OWN}"


def refuse_unreadable(checkpoint: Checkpoint) -> None:
    """Raises ``UserError`` where tensors are more than their bytes: those that a model misses."""
    if checkpoint.unsupported:
        (name, reason), others = next(iter(checkpoint.unsupported.items())), checkpoint.unsupported
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        raise UserError(
            f"{checkpoint}: {show(name, 80)}{more} is {reason}, which cannot be read; expected "
            "plain tensors, whole and not quantized"
        )


def check_number_types(checkpoint: Checkpoint, names: Collection[str] | None = None) -> None:
    """Refuses quantized weights, whose packed numbers a framework would take for values, and
    complex ones, whose imaginary part it would leave out: no detector that is known has any.

    Args:
        names: of the tensors that are looked at; all by default.
    """
    own = f" (or {_OWN_CODE})" if names is None else ""  # of a file that is run, or may be
    # Of quantized ones the weights before their scales.
    for name in (*checkpoint.quantized, *checkpoint.tensors) if names is None else names:
        if reason := checkpoint.quantized.get(name):
            raise UserError(
                f"{checkpoint}: {name} is {reason}; a detector is run with weights that are not "
                f"quantized{own}"
            )
        dtype = checkpoint.tensors[name].dtype
        if dtype.startswith("complex"):
            raise UserError(
                f"{checkpoint}: {name} is of complex numbers ({dtype}); expected real ones{own}"
            )
