"""A file open for reading at given positions."""

import os
import stat
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path

from ablate_kit.errors import CheckpointError, did_you_mean

_AHEAD = 4096
_CHUNK = 1 << 20


class FileSource:
    """Positional, thread-safe and fork-safe reads of one regular file.

    Reads, not a memory map: a file that is cut short while it is open then gives an error line and
    not a SIGBUS, and only what was asked for counts as this process's memory (touching a 30-byte
    header through a map brings in 64 KiB around it).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # O_NONBLOCK: opening a named pipe must fail below, not wait for a writer.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot open {path}: {_reason(error)}{_near(path)}") from None
        self._closing = weakref.finalize(self, os.close, self._fd)
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise CheckpointError(f"{path} is not a regular file")
        self.size = status.st_size
        self._modified = status.st_mtime_ns

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``."""
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` (of bytes) from ``offset``."""
        fd = self.fileno()
        if offset < 0 or offset + len(buffer) > self.size:
            raise CheckpointError(
                f"{self.path} has {self.size} bytes, but bytes {offset} to {offset + len(buffer)} "
                "are needed: is it cut short?"
            )
        done = 0
        while done < len(buffer):
            try:
                count = os.preadv(fd, [buffer[done:]], offset + done)
            except OSError as error:
                raise CheckpointError(f"cannot read {self.path}: {_reason(error)}") from None
            if count == 0:
                raise CheckpointError(f"{self.path} was cut short while it was open")
            done += count

    def crc32(self, offset: int, length: int) -> int:
        """The CRC-32 of ``length`` bytes from ``offset``."""
        buffer, crc = memoryview(bytearray(min(length, _CHUNK))), 0
        for start in range(0, length, _CHUNK):
            part = buffer[: length - start]
            self.read_into(offset + start, part)
            crc = zlib.crc32(part, crc)
        return crc

    def ahead(self) -> Callable[[int, int], bytes]:
        """``read`` for many small pieces that lie one behind the other.

        Reads ahead of what is asked for, and gives what follows out of these.
        """
        start, held = 0, b""

        def read(offset: int, length: int) -> bytes:
            nonlocal start, held
            if offset < start or offset + length > start + len(held):
                start, held = (
                    offset,
                    self.read(offset, max(length, min(_AHEAD, self.size - offset))),
                )
            return held[offset - start : offset - start + length]

        return read

    def fileno(self) -> int:
        """The open file descriptor."""
        if not self._closing.alive:
            raise ValueError(f"{self.path} is closed")
        return self._fd

    def check_unchanged(self) -> None:
        """Raise if the open file was written to since it was opened."""
        status = os.fstat(self.fileno())
        if (status.st_size, status.st_mtime_ns) != (self.size, self._modified):
            raise CheckpointError(f"{self.path} was changed on disk while it was open")

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        self._closing()


def damaged(source: FileSource, what: str) -> CheckpointError:
    """What is said of bytes that are not those that were written."""
    return CheckpointError(
        f"{source.path} is damaged: {what} does not have the checksum that the file keeps of it; "
        "copy or download the file again (torch.load reads it without a look at checksums)"
    )


def _near(path: Path) -> str:
    """What may have been meant by the name of a file that is not there."""
    if str(path) == "-":
        return "; checkpoints are not read from standard input, name a file"
    if str(path).isdecimal():  # behind --shapes, which takes none
        return f"; the first {path} images are --limit {path}"
    if str(path).startswith("~"):
        return "; the shell expands ~ only at the beginning of a word without quotes"
    try:
        names = [one.name for one in path.parent.iterdir()]
    except (OSError, ValueError):
        return ""
    return "" if path.name in names else did_you_mean(path.name, names)


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
