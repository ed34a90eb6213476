"""Whether a device can be used."""

import torch

from ablate_kit.errors import UserError


def check_device(name: str) -> None:
    """Raises ``UserError`` for a device that torch does not know or does not have here."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'cannot use the device "{name}": {reason}') from None
