"""Whether a device can be used, and with how many threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ablate_kit.errors import UserError


def check_device(name: str) -> None:
    """Raises ``UserError`` for a device that torch does not know or does not have here."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'cannot use the device "{name}": {reason}') from None


@contextmanager
def thread_count(count: int | None) -> Iterator[None]:
    """Forward passes on the CPU use so many threads; None: as many as they did."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
