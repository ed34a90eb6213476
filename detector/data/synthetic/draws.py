"""Random numbers that are the same on every machine.

numpy guarantees the stream of a bit generator, not of its distributions, so only raw bits are
taken.
"""

from math import prod

import numpy as np
import numpy.typing as npt

from detector.data.synthetic.planes import Planes


class Draws:
    """Random numbers of one stream of one image, from raw bits."""

    def __init__(self, key: tuple[int, int], index: int, stream: int) -> None:
        counter = np.array([0, index, stream, 0], dtype=np.uint64)
        self._bits = np.random.Philox(key=np.array(key, dtype=np.uint64), counter=counter)

    def below(self, end: int) -> int:
        return int(self._bits.random_raw()) % end

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

    def chance(self, probability: float) -> bool:
        return self.between(0, 1) < probability

    def fraction(self, low: float, high: float) -> np.float32:
        return np.float32(self.between(low, high))

    def bytes(self, *shape: int) -> npt.NDArray[np.float32]:
        """Whole numbers 0 to 255."""
        count = prod(shape)
        raw = np.asarray(self._bits.random_raw((count + 7) // 8), dtype="<u8")
        return raw.view(np.uint8)[:count].reshape(shape).astype(np.float32)

    def palette(self, rows: int, columns: int, vividness: np.float32) -> Planes:
        """(3, rows, columns) colors; vividness 0 leaves shades of gray."""
        colors = self.bytes(3, rows, columns)
        gray = (colors[0] + colors[1] + colors[2]) / 3
        return gray + (colors - gray) * vividness

    def color(self, vividness: np.float32) -> Planes:
        return self.palette(1, 1, vividness)

    def tilt(self) -> tuple[float, float]:
        """A cosine and a sine, of at most 37 degrees either way (tan of half of it is 1/3)."""
        t = self.between(-1 / 3, 1 / 3)
        return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)

    def rotation(self) -> tuple[float, float]:
        """A cosine and a sine, over the whole circle, by the half-angle formula."""
        t = self.between(-1, 1)
        sign = 1 if self.chance(0.5) else -1
        return sign * (1 - t * t) / (1 + t * t), sign * 2 * t / (1 + t * t)
