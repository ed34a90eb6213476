"""An error of a worker elsewhere, as a value that can be sent."""

import traceback
from dataclasses import dataclass
from typing import TypeVar

from ablate_kit.device_errors import is_of_memory
from ablate_kit.errors import UserError

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Failure:
    """What ended a worker elsewhere. It is told once, for the next worker would not fare better."""

    error: str  # its class
    message: str
    traceback: str
    is_of_memory: bool

    @staticmethod
    def of(error: Exception) -> "Failure | UserError":
        """To be sent to who asked; a user's mistake is sent as it is."""
        if isinstance(error, UserError):
            return error
        return Failure(
            type(error).__name__,
            next(iter(str(error).splitlines()), ""),
            "".join(traceback.format_exception(error)),
            is_of_memory(error),
        )

    def raised(self) -> Exception:
        if self.is_of_memory:
            return MemoryError(f"a worker failed: {self.message}; what is done is kept")
        error = RuntimeError(f"a worker failed: {self.error}: {self.message}")
        error.add_note(f"In the worker:\n{self.traceback}")
        return error


def answered(found: Answer | Failure | UserError) -> Answer:
    """What a worker sent; raises what ended it."""
    if isinstance(found, Failure):
        raise found.raised()
    if isinstance(found, UserError):
        raise found
    return found
