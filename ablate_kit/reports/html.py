"""Pages from templates, and figures and photographs as they hold them, in light and in dark.

Whatever a name holds, it is text of the page.
"""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from ablate_kit.reports.saved_figure import KINDS, save_figure
from ablate_kit.text import lines

# The three colors of a figure that follow the reader's: ink, paper and grid (matplotlib's 0.9).
_THEME = (("#000000", "currentColor"), ("#ffffff", "none"), ("#e6e6e6", "var(--line)"))
SHRUNK = 0.75


@dataclass(frozen=True)
class Picture:
    name: str
    caption: str
    files: str  # beside the page
    markup: Markup


def themed(svg: str) -> Markup:
    """The element of an SVG file, with ink, paper and grid in the colors of the page.

    On a small screen it shrinks to the size at which its letters can be read, not further.
    """
    element = svg[svg.index("<svg") :]
    for color, own in _THEME:
        element = element.replace(f": {color}", f": {own}")
    width = float(element.split('width="')[1].split("pt")[0])
    sized = element.replace("<svg", f'<svg style="min-width: {SHRUNK * width:.0f}pt"', 1)
    return Markup(sized)  # noqa: S704 - matplotlib's own


def photograph(path: Path) -> Markup:
    data = base64.b64encode(path.read_bytes()).decode()
    return Markup('<img alt="" src="data:image/jpeg;base64,{}">').format(data)


def saved_picture(place: Path, name: str, caption: str, figure: Figure) -> Picture:
    """A figure in its files in the folder ``place``, and on the page."""
    save_figure(figure, place / name)
    svg = themed((place / f"{name}.svg").read_text(encoding="utf-8"))
    return Picture(name, caption, ", ".join(f"{name}.{kind}" for kind in KINDS), svg)


def render(template: str, **values: Any) -> str:
    """A page of ``reports/templates``: text is escaped, and what is not printable is spelled."""
    environment = Environment(
        loader=PackageLoader("ablate_kit.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=_safe,
    )
    return environment.get_template(template).render(values)


def _safe(value: Any) -> Any:
    return lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value
