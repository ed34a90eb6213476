"""Figures as files: those that matplotlib makes, in one drawing."""

from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure

from ablate_kit.reports.saved_figure import DPI, KINDS, drawn, new_figure


def _filled(figure: Figure) -> Figure:
    """With whatever is placed, or scaled, no sooner than when it is drawn."""
    left, right = figure.subplots(1, 2)
    left.plot([1, 3, 2], label="a curve")
    left.legend(loc="best")
    left.set_xlabel("steps")
    left.set_ylabel("a long name of an axis\nthat takes two lines")
    across, up = np.meshgrid(np.arange(4), np.arange(3))
    right.quiver(across, up, up - 1, across, angles="xy")
    right.set_aspect("equal")
    figure.colorbar(right.imshow(np.outer(np.arange(3), np.arange(4))), ax=right)
    figure.suptitle("Two pictures")
    return figure


def test_the_bytes_are_those_of_a_plain_figure() -> None:
    """Which was laid out as it is for the first kind."""
    plain = _filled(Figure(figsize=(6, 3), layout="constrained"))
    plain.savefig(BytesIO(), format=KINDS[0], dpi=DPI)
    plain.set_layout_engine("none")
    ours = drawn(_filled(new_figure(6, 3)))
    assert list(ours) == [*KINDS]
    for kind, content in drawn(plain).items():
        assert ours[kind] == content, kind


def test_what_is_not_kept_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawings: list[object] = []
    draw = Figure.draw

    def counted(figure: Figure, renderer: object) -> None:
        drawings.append(renderer)
        draw(figure, renderer)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "draw", counted)
    drawn(_filled(new_figure(6, 3)))
    assert len(drawings) == len(KINDS)
