"""A synthetic detection benchmark: textured shapes in clutter, made from two integers.

Everything an image shows follows from (seed, split, index). To be the same to the byte on every
machine, the generator takes raw bits only and computes with + - * / and square roots, which
IEEE 754 rounds one way; sines, powers, matrix products and long float sums differ between
processors: none is used.
"""

import numpy as np

from detector.data.dataset import Annotations, Pixels, box_areas, object_ids
from detector.data.synthetic.draws import Draws
from detector.data.synthetic.layout import Figure, layout
from detector.data.synthetic.painting import background, paint, photographed
from detector.errors import UserError

_MIN_SIZE = 64
_LAYOUT, _PAINT = 0, 1  # streams of one image


class Shapes:
    """``count`` square images of ``size`` pixels with 1 to 5 objects of 8 classes.

    Class is outline alone: color, texture, tilt, stretch and size are drawn alike for all
    classes, and for the up to two bars, arcs and brackets that lie among the objects without
    being any. The longer side of an object is 15 to 55 % of the image's. Objects cover each other
    and are cut by the image's edge; of each, 45 % or more of the area stays visible. A box is that
    of the full outline, covered parts included, clipped to the image. Images of different
    ``split`` numbers are unrelated.
    """

    classes = ("disc", "square", "triangle", "star", "cross", "ring", "crescent", "heart")
    category_ids = tuple(range(1, 9))

    def __init__(self, count: int, seed: int = 0, size: int = 160, split: int = 0) -> None:
        if count < 1:
            raise UserError(f"cannot make {count} shapes images; give 1 or more")
        if size < _MIN_SIZE:
            raise UserError(
                f"shapes images of {size} pixels are too small; give {_MIN_SIZE} or more"
            )
        if not (0 <= seed < 2**63 and 0 <= split < 2**63):
            raise UserError(
                f"shapes seed {seed}, split {split}: expected numbers from 0 to 2**63 - 1"
            )
        self._count = count
        self._size = size
        self._key = (seed, split)
        self._last: tuple[int, list[Figure]] = (-1, [])  # asked for as annotations and as an image

    def __len__(self) -> int:
        return self._count

    def annotations(self, index: int) -> Annotations:
        """The objects of image ``index``, in painting order: later ones cover earlier ones."""
        objects = [figure for figure in self.scene(index) if figure.label is not None]
        boxes = np.array([figure.box for figure in objects]).reshape(-1, 4).clip(0, self._size)
        return Annotations(
            image_id=index,
            file_name=f"shapes-{self._key[0]}-{self._key[1]}-{index:06}.png",
            width=self._size,
            height=self._size,
            boxes=boxes,
            labels=np.array([figure.label for figure in objects], dtype=np.int64),
            ignore=np.zeros(len(objects), dtype=np.bool_),
            areas=box_areas(boxes),
            ids=object_ids(index, len(objects)),
        )

    def image(self, index: int) -> Pixels:
        draws = Draws(self._key, index, _PAINT)
        canvas = background(self._size, draws)
        for figure in self.scene(index):
            paint(canvas, figure, draws)
        return photographed(canvas, draws)

    def stored(self, index: int) -> bytes:
        return self.image(index).tobytes()

    def scene(self, index: int) -> list[Figure]:
        """Objects and distractors of image ``index``, in painting order."""
        if not 0 <= index < self._count:
            raise IndexError(f"no image {index} in a data set of {self._count}")
        last, figures = self._last
        if last != index:
            figures = layout(self._size, Draws(self._key, index, _LAYOUT))
            self._last = index, figures
        return list(figures)
