"""Whose fault it is that a model's forward pass fails.

A model that a user brings, with a configuration and a way to prepare images, may be unfit to run at
all, or on images of a size: that can be mended. A failed assertion that is no check of the input,
an error of the device, what the project's own code raises within the model, and any failure of a
model that ran on such images before, are failures of programs, and stay as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ablate_kit.device_errors import is_of_device
from ablate_kit.errors import UserError

OURS = ("ablate_kit.", "detector.")
LONGEST = 160  # characters of a library's own words


class ForwardPasses:
    """Of one model; ``name`` is what it is called."""

    def __init__(self, name: str, preparation: str) -> None:
        self._name = name
        self._preparation = preparation  # what makes its images
        self._sizes: set[tuple[int, ...]] = set()  # of images that it ran on

    @contextmanager
    def on(self, images: torch.Tensor) -> Iterator[None]:
        """Raises ``UserError`` for what the block raises that the user can mend."""
        size = tuple(images.shape[-2:])
        try:
            yield
        except UserError:
            raise
        # Any other class: a stranger's configuration ends in whatever its model runs into.
        except Exception as error:
            if size in self._sizes or is_of_device(error) or _of_program(error):
                raise
            raise UserError(
                f"{self._name} does not run on images of {size[1]}x{size[0]} pixels, as "
                f"{self._preparation}: {describe_error(error)}"
            ) from error
        self._sizes.add(size)


def describe_error(error: BaseException) -> str:
    """A library's own words, as part of a line."""
    text = " ".join(str(error).split())
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def _of_program(error: BaseException) -> bool:
    """Whether it is an assertion that fails, but for those of PyTorch by which models check what
    comes in, or the project's own code that raises it; what watches PyTorch's functions only hands
    on what these raise."""
    module, function, trace = "", "", error.__traceback__
    while trace:
        frame = trace.tb_frame
        if frame.f_code.co_name != "__torch_function__":
            module, function = str(frame.f_globals.get("__name__", "")), frame.f_code.co_name
        trace = trace.tb_next
    if isinstance(error, AssertionError):
        return (module, function) != ("torch", "_assert")
    return module.startswith(OURS)
