"""Whether the numbers of a file can be a model's weights, by their type."""

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError

OWN_CODE = "with your own code: --model python:FILE.py:NAME"


def check_number_types(checkpoint: Checkpoint) -> None:
    """Refuses quantized weights, which a framework would fill its own with as they are, and complex
    numbers, of which it would leave out the imaginary part: no detector that is known has any."""
    for name, reason in checkpoint.quantized.items():
        raise UserError(
            f"{checkpoint}: {name} is {reason}; a detector is run with weights that are not "
            f"quantized (or {OWN_CODE})"
        )
    for name, info in checkpoint.tensors.items():
        if info.dtype.startswith("complex"):
            raise UserError(
                f"{checkpoint}: {name} is of complex numbers ({info.dtype}); expected real ones "
                f"(or {OWN_CODE})"
            )
