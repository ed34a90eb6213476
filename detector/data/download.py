"""Fetching a large file of known content over a line that may break."""

import hashlib
import http.client
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from detector.errors import UserError

Progress = Callable[[int, int | None], None]
"""Told the bytes that are there and the bytes in all, where the server says them."""

_BLOCK = 1 << 18
_TIMEOUT = 60.0  # seconds without a byte
_PAUSE = 2.0  # seconds before the next try
_TRIES = 3  # that bring nothing new, in a row


def fetch(url: str, path: Path, md5: str, progress: Progress) -> None:
    """Downloads to ``path``, which appears once it is complete and has this MD5 checksum.

    What arrived of an interrupted download lies beside it and is continued, by an HTTP range, as
    long as each try brings something new; a later call goes on from there as well. A file that
    is at ``path`` already is checked and kept. UserError where the server does not deliver, what
    it delivers has another checksum (it is removed then), or the disk does not take it.
    """
    if path.exists():
        if (found := _md5(path)) != md5:
            raise UserError(f"{path}: its md5 is {found}, expected {md5}; remove it and try again")
        return
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _complete(url, part, progress)
        if (found := _md5(part)) != md5:
            part.unlink()
            raise UserError(f"{url}: the md5 of what it gave is {found}, expected {md5}; removed")
        part.replace(path)
    except OSError as error:  # those of the network were caught where they arise
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


class _CutOffError(Exception):
    """The line broke; the message is why."""


def _complete(url: str, part: Path, progress: Progress) -> None:
    """Appends to ``part`` until it holds all that the server has."""
    most, tries = _size(part), 0
    while True:
        try:
            return _continue(url, part, progress)
        except _CutOffError as error:
            tries = 0 if _size(part) > most else tries + 1
            most = max(most, _size(part))
            if tries == _TRIES and most == 0:
                raise UserError(f"{url}: nothing arrives: {error}") from None
            if tries == _TRIES:
                raise UserError(
                    f"{url}: broke off after {most:,} bytes: {error}; "
                    "what arrived is kept: run again to resume from there"
                ) from None
        time.sleep(_PAUSE)


def _continue(url: str, part: Path, progress: Progress) -> None:
    start = _size(part)
    try:
        # S310: the caller's address; http and https alone, see ``check_address``.
        response = urlopen(  # noqa: S310
            Request(url, headers={"Range": f"bytes={start}-"} if start else {}),  # noqa: S310
            timeout=_TIMEOUT,
        )
    except HTTPError as error:
        with error:
            if error.code == 416:  # nothing after these bytes: the checksum tells if they are all
                return
            raise UserError(f"{url}: the server answers {error.code} {error.reason}") from None
    except (URLError, OSError, http.client.HTTPException) as error:
        raise _CutOffError(_reason(error)) from None
    with response:
        if response.status != 206 or _first_byte(response) != start:
            start = 0  # the server sends the whole file, whatever was asked
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with part.open("ab" if start else "wb") as file:
            while block := _read(response):
                file.write(block)
                progress(file.tell(), total)
            if total is not None and file.tell() < total:
                raise _CutOffError(f"{total:,} were announced")


def _read(response: Any) -> bytes:
    try:
        return response.read1(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _CutOffError(_reason(error)) from None


def _reason(error: Exception) -> object:
    inner = getattr(error, "reason", error)  # urllib wraps what the socket says
    return getattr(inner, "strerror", None) or inner


def _first_byte(response: Any) -> int | None:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def check_address(url: str) -> None:
    """Refuses what is no web address: urllib would open files as well."""
    if not re.match(r"https?://[^/]", url):
        raise UserError(f'"{url}" is no web address; expected http://... or https://...')


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
