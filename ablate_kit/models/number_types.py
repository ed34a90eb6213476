"""Whether the numbers of a file can be a model's weights, by their type."""

from collections.abc import Collection

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError

OWN_CODE = "with your own code: --model python:FILE.py:NAME"


def check_number_types(checkpoint: Checkpoint, names: Collection[str] | None = None) -> None:
    """Refuses quantized weights, which a framework would fill its own with as they are, and complex
    numbers, of which it would leave out the imaginary part: no detector that is known has any.
    ``names`` are those that are looked at; all by default."""
    for name in checkpoint.tensors if names is None else names:
        if reason := checkpoint.quantized.get(name):
            raise UserError(
                f"{checkpoint}: {name} is {reason}; a detector is run with weights that are not "
                f"quantized (or {OWN_CODE})"
            )
        dtype = checkpoint.tensors[name].dtype
        if dtype.startswith("complex"):
            raise UserError(
                f"{checkpoint}: {name} is of complex numbers ({dtype}); expected real ones "
                f"(or {OWN_CODE})"
            )
