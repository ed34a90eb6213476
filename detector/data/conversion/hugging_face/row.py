"""What every form of a Hugging Face data set has: rows of an image each."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One image and what its row says.

    Attributes:
        where: for messages.
        values: of all other columns.
        image: the bytes of its file.
        name: of that file, without folders; "" where none is known.
    """

    where: str
    values: dict[str, Any]
    image: bytes
    name: str
