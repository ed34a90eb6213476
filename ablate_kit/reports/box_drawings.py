"""Detections drawn on their images."""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ablate_kit import text as safe
from detector.data.dataset import Pixels

GAP = 8  # pixels between pictures side by side


def draw(
    pixels: Pixels,
    boxes: "np.ndarray[tuple[int, int], np.dtype[np.float64]]",
    captions: Sequence[str],
    labels: Sequence[int],
    title: str = "",
) -> Image.Image:
    """A picture with a box and a caption per detection; the first on top.

    Args:
        pixels: (height, width, 3) RGB.
        boxes: (n, 4) x1, y1, x2, y2 in pixels.
        captions: (n,) what stands at each box.
        labels: (n,) class of each: boxes of one class have one color.
        title: above the image.
    """
    captions = [*map(safe.caption, captions)]
    image = Image.fromarray(pixels)
    size = max(11, min(image.size) // 32)
    font = ImageFont.load_default(size)
    line = max(2, min(image.size) // 200)
    pen = ImageDraw.Draw(image)
    for i in reversed(range(len(captions))):
        color = _color(labels[i])
        x1, y1, x2, y2 = boxes[i].tolist()
        if x2 < x1 or y2 < y1:
            continue
        pen.rectangle((x1, y1, x2, y2), outline=color, width=line)
        _, _, right, bottom = pen.textbbox((0, 0), captions[i], font=font)
        x = min(max(x1, 0), max(image.width - right, 0))
        y = max(y1 - bottom - 2, 0)
        pen.rectangle((x, y, x + right + 4, y + bottom + 2), fill=color)
        pen.text((x + 2, y), captions[i], fill="white", font=font)
    return _titled(image, safe.caption(title), font, size) if title else image


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    width = sum(one.width for one in pictures) + GAP * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, max(one.height for one in pictures)), "white")
    x = 0
    for one in pictures:
        sheet.paste(one, (x, 0))
        x += one.width + GAP
    return sheet


def _titled(
    image: Image.Image, title: str, font: "ImageFont.ImageFont | ImageFont.FreeTypeFont", size: int
) -> Image.Image:
    height = int(size * 1.6)
    sheet = Image.new("RGB", (image.width, image.height + height), "white")
    sheet.paste(image, (0, height))
    ImageDraw.Draw(sheet).text((4, height // 8), title, fill="black", font=font)
    return sheet


def _color(label: int) -> tuple[int, int, int]:
    """Far from those of the neighboring classes, and dark enough for white text."""
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.85, 0.7)
    return round(red * 255), round(green * 255), round(blue * 255)
