"""Detectors of the user's own code: ``--model python:FILE.py:NAME``.

The user names the code on the command line, as in ``python FILE.py``; nothing that a file names
comes here.
"""

import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.device_errors import is_of_memory
from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.models.framework import Framework, Request
from ablate_kit.models.frameworks.source_files import python_files
from detector.disk.bounded import SETTINGS, read_bounded

if TYPE_CHECKING:
    from ablate_kit.models.adapter import Adapter

NAME = "python"
EXPECTED = "python:FILE.py:NAME or python:package.module:NAME"
_PARTS = ("module", "classes", "live_names", "same_model", "prepare", "forward", "decode")


def framework(place: str) -> Framework:
    """``FILE.py:NAME`` or ``package.module:NAME``: a framework, or a function that makes an
    adapter from a checkpoint and a device.

    Raises ``UserError`` where there is no such thing, or its code fails.
    """
    where, name = check_file(place)
    module = _imported(where)
    found = getattr(module, name, None)
    if found is None:
        public = [one for one in vars(module) if not one.startswith("_")]
        raise UserError(f"{where} has no {name}{did_you_mean(name, public)}")

    def files(_: str) -> list[Path]:
        return python_files(Path(module.__file__)) if module.__file__ else []

    if isinstance(found, Framework):
        return replace(found, files=files)
    if not callable(found):
        raise UserError(
            f"{name} of {where} is a {type(found).__name__}; expected a function that takes a "
            "checkpoint and a device, and returns an adapter"
        )

    def opened(checkpoint: Checkpoint, request: Request) -> "Adapter":
        what = f"{name} of {where}"
        with user_code_errors(what, Path(module.__file__ or "")):
            adapter = found(checkpoint, request.device)
        return _checked(adapter, what, checkpoint)

    return Framework(opened, files=files)


def check_file(place: str) -> tuple[str, str]:
    """The file or module, and the name in it; ``UserError`` where there is no such file."""
    where, _, name = place.rpartition(":")
    if not where or not name.isidentifier():
        raise UserError(f'"{NAME}:{place}" names no code; expected {EXPECTED}')
    if Path(where).suffix == ".py" and not Path(where).is_file():
        raise UserError(f"{where}: no such file; expected {EXPECTED}")
    return where, name


def _checked(adapter: "Adapter", what: str, checkpoint: Checkpoint) -> "Adapter":
    missing = [part for part in _PARTS if not hasattr(adapter, part)]
    if missing:
        raise UserError(
            f"{what} returned a {type(adapter).__name__}, which has no {missing[0]}; expected an "
            "adapter, such as ablate_kit.wrap makes"
        )
    _check_weights(adapter, what, checkpoint)
    return adapter


def _check_weights(adapter: "Adapter", what: str, checkpoint: Checkpoint) -> None:
    """Refuses a model that has other weights than the checkpoint: what is cut there would not be
    what is evaluated here."""
    import torch

    live, known = adapter.module.state_dict(), adapter.live_names()
    shared = [name for name in checkpoint.tensors if known.get(name)]
    if not shared:
        name, live_name = next(iter(checkpoint.tensors), "none"), next(iter(live), "none")
        raise UserError(
            f"{what}: no tensor of {checkpoint.path} is in the model under its name (such as "
            f'"{name}" there and "{live_name}" in the model); say which is which with '
            "wrap(names=...)"
        )
    for name in shared:
        stored = checkpoint.read(name)
        for live_name in known[name]:
            own = live[live_name].detach().cpu()
            same = own.shape == stored.shape and torch.allclose(
                own.double(), stored.double(), rtol=0, atol=0, equal_nan=True
            )
            if not same:
                others = [f'"{one.place}"' for one in checkpoint.alternatives]
                or_these = f", or --weights {' or '.join(others)}" if others else ""
                types = "" if own.dtype == stored.dtype else f" ({own.dtype}, not {stored.dtype})"
                raise UserError(
                    f'{what}: "{live_name}" of the model is not "{name}" of {checkpoint}{types}; '
                    f"expected a model that has loaded checkpoint.state_dict(){or_these}"
                )


def _imported(where: str) -> ModuleType:
    path = Path(where)
    if path.suffix != ".py":
        _look_in(Path())
        with user_code_errors(where):
            return importlib.import_module(where)
    path = path.resolve()
    name = f"_ablate_own_{sha256(str(path).encode()).hexdigest()[:16]}"
    if name in sys.modules:  # of one file one module, or its classes would be others each time
        return sys.modules[name]
    _look_in(path.parent)
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        with user_code_errors(where, path):
            # Not through Python's cache of compiled files: it leaves one beside the file, and takes
            # it for the file's own when that was changed within a second.
            exec(compile(read_bounded(path, SETTINGS), path, "exec"), vars(module))  # noqa: S102
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _look_in(folder: Path) -> None:
    """What lies beside the code can be imported; last, so that it hides no package."""
    if str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))


@contextmanager
def user_code_errors(what: str, file: Path | None = None) -> Iterator[None]:
    """What the user's code raises, in one line that says where in ``file``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_of_memory(error):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        last = next((one for one in reversed(frames) if one.filename == str(file)), frames[-1])
        name, line = last.filename, last.lineno
        if isinstance(error, SyntaxError) and error.filename:
            name, line = error.filename, error.lineno
        text = " ".join(str(error).split())
        raise UserError(
            f"{what} fails at {Path(name).name}:{line}: {type(error).__name__}: {text}"
        ) from error
