"""Pictures are drawn of what variants note that they are, whatever their names."""

from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.reports.sweep_reports.sweep_figures import figures, heat_map
from tests.ablate_kit.made_up import result_of

Factors = dict[str, str | int | float]


def drawn(
    variants: Sequence[tuple[str, str, float, Factors]], *, joined: bool = True
) -> dict[str, Figure]:
    """Of changes by 0.2 and more are significant."""
    results = [result_of("unmodified"), *(result_of(*one) for one in variants)]
    changes = [
        dict.fromkeys(
            KEYS, Change(v, v - 0.5, v - 0.6, v - 0.4, 0.05, 0.5, 0.01 if v < 0.31 else 0.5, 0.2)
        )
        for _, _, v, _ in variants
    ]
    found = figures(results, changes, [[]] * len(variants), curves=joined)
    return {name: figure for name, _, figure in found}


def ticks(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def curves(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    return {
        str(line.get_label()): [(float(x), float(y)) for x, y in line.get_xydata()]
        for line in figure.axes[0].lines
    }


def test_names_that_look_like_coordinates_draw_nothing() -> None:
    found = drawn(
        [
            ("x-head3", "modules", 0.4, {"module": "x-head3"}),
            ("foo-10pct-r0", "modules", 0.3, {"module": "foo-10pct-r0"}),
            ("foo-20pct-r0", "modules", 0.3, {"module": "foo-20pct-r0"}),
            ("foo-1of4-r0", "modules", 0.3, {"module": "foo-1of4-r0"}),
            ("foo-2of4-r0", "modules", 0.3, {"module": "foo-2of4-r0"}),
            ("layers.0.x", "modules", 0.2, {"module": "layers.0.x", "layer": 0}),
            ("layers.0-1.x", "component", 0.2, {"target": "layers.0-1.x"}),
            ("x-head3-null0", "modules", 0.1, {"module": "x-head3-null0"}),
        ]
    )
    assert list(found) == ["ranking"]
    assert len(ticks(found["ranking"])) == 8


def test_parts_of_random_orders_are_no_rows() -> None:
    steps: list[tuple[str, str, float, Factors]] = [
        ("a+b", "shapley", 0.2, {"count": 2}),
        ("shapley-3-2680f2a1", "shapley", 0.1, {"count": 3}),
    ]
    found = drawn([("a", "modules", 0.4, {}), ("b", "modules", 0.3, {}), *steps])
    assert ticks(found["ranking"]) == ["b", "a"]


@pytest.mark.parametrize("rows", [1, 3])
def test_labels_of_few_rows_fit_into_their_picture(rows: int) -> None:
    figure = heat_map(
        np.full((rows, 4), 0.1), np.ones((rows, 4), bool), ["module"] * rows, [*"0123"], "head",
        numbers=True,
    )  # fmt: skip
    figure.draw_without_rendering()
    own, outer = figure.get_tightbbox(), figure.bbox_inches
    assert outer.y0 <= own.y0 < own.y1 <= outer.y1
    assert outer.x0 <= own.x0 < own.x1 <= outer.x1


def test_cells_of_few_classes_have_room_beside_long_names() -> None:
    rows = ["model.backbone.model.embedder.embedder.2-channel0-31-mean"] * 25
    columns = ["bolt", "nut", "hexagonal washer"]
    figure = heat_map(
        np.full((25, 3), 0.1), np.ones((25, 3), bool), rows, columns, "", numbers=True
    )
    figure.draw_without_rendering()
    inches = figure.axes[0].get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    assert inches.width >= 1.0
    assert all(label.get_rotation() == 90 for label in figure.axes[0].get_xticklabels())


def test_heads_are_at_their_module_and_number() -> None:
    found = drawn(
        [
            ("one", "heads", 0.4, {"module": "x-head3", "head": 0}),
            ("two", "heads", 0.3, {"module": "x-head3", "head": 1}),
            ("three", "heads", 0.1, {"module": "y", "head": 1}),
            ("four", "control", 0.1, {"control_of": "one", "draw": 0}),
            ("five", "heads", 0.1, {"target": "y", "heads": "0-1"}),
        ]
    )
    (image,) = found["heads"].axes[0].images
    assert ticks(found["heads"]) == ["x-head3", "y"]
    assert [[f"{x:.1f}" for x in row] for row in image.get_array().data.tolist()] == [
        ["-0.1", "-0.2"],
        ["nan", "-0.4"],
    ]
    ranking = found["ranking"]
    assert ticks(ranking) == ["three", "five", "two", "one"]
    strokes = [line for line in ranking.axes[0].lines if line.get_marker() == "|"]
    assert [list(line.get_xdata()) for line in strokes] == [[], [], [], [-0.4]]


def test_a_map_marks_what_is_significant_and_hatches_what_was_not_cut() -> None:
    found = drawn(
        [
            ("one", "heads", 0.4, {"module": "x", "head": 0}),
            ("two", "heads", 0.3, {"module": "x", "head": 1}),
            ("three", "heads", 0.1, {"module": "y", "head": 1}),
        ]
    )
    panel = found["heads"].axes[0]
    assert [text.get_text() for text in panel.texts] == ["-10.0", "-20.0*", "-40.0*"]
    assert panel.patch.get_hatch()
    figure = heat_map(
        np.array([[-0.1, np.nan, 0.2]]), np.array([[True, True, False]]), ["a"], [*"012"], "",
        numbers=False,
    )  # fmt: skip
    assert [text.get_text() for text in figure.axes[0].texts] == ["*"]


def test_a_curve_has_an_interval_where_a_point_is_one_variant() -> None:
    layers: list[tuple[str, str, float, Factors]] = [
        (f"{i}", "layers", 0.4 - i / 10, {"target": "f", "mode": "progressive", "layers": i + 1})
        for i in range(2)
    ]
    repeats: list[tuple[str, str, float, Factors]] = [
        (f"{i} {draw}", "units", 0.3, {"target": "w", "percent": 10 * (1 + i)})
        for i in range(2)
        for draw in range(2)
    ]
    found = drawn([*layers, *repeats])
    ends = [
        [[round(float(y), 9) for y in line[:, 1]] for line in one.get_segments()]
        for one in found["layers"].axes[0].collections
        if isinstance(one, LineCollection)
    ]
    assert ends == [[[0.3, 0.5]], [[0.2, 0.4]]]
    lowest = drawn([(name, kind, v - 0.35, factors) for name, kind, v, factors in layers])
    ap, _, giou = (
        [
            one.get_segments()[0][:, 1].min()
            for one in panel.collections
            if isinstance(one, LineCollection)
        ]
        for panel in lowest["layers"].axes
    )
    assert min(ap) == 0  # what is below is no AP
    assert min(giou) < 0
    assert not [one for one in found["percentages"].axes[0].collections
                if isinstance(one, LineCollection)]  # fmt: skip


def test_intervals_of_two_curves_do_not_hide_each_other() -> None:
    found = drawn(
        [
            (f"{side} {count}", "patch", 0.4, {"target": side, "modules": count})
            for side in ("first", "last")
            for count in (1, 2)
        ]
    )
    lines = [one for one in found["donor"].axes[0].collections if isinstance(one, LineCollection)]
    places = [float(one.get_segments()[0][0, 0]) for one in lines]
    assert len(set(places)) == 4
    assert places == pytest.approx([1, 2, 1, 2], abs=0.05)


def test_of_a_head_that_is_cut_twice_the_map_shows_the_first_cut() -> None:
    """A study replaces heads by their mean, and sets some of them to zero beside it."""
    found = drawn(
        [
            ("a", "heads-mean", 0.4, {"module": "x", "head": 0}),
            ("b", "heads-mean", 0.3, {"module": "x", "head": 1}),
            ("c", "heads", 0.1, {"module": "x", "head": 1}),
        ]
    )
    (image,) = found["heads"].axes[0].images
    assert image.get_array().data == pytest.approx(np.array([[-0.1, -0.2]]))


def test_curves_are_means_of_draws_over_a_factor() -> None:
    def units(percent: float, draw: int, value: float) -> tuple[str, str, float, Factors]:
        factors: Factors = {"target": "w", "percent": percent, "repeat_of": "w", "draw": draw}
        return f"{percent} {draw}", "units", value, factors

    found = drawn(
        [
            units(10, 0, 0.4), units(10, 1, 0.2), units(30.5, 0, 0.1), units(30.5, 1, 0.1),
            ("also", "any", 0.3, {"target": "w", "percent": 50, "protocol": "p"}),
            ("kept", "units-retained", 0.3, {"target": "w", "keep_percent": 50}),
            ("noise", "noise", 0.3, {"target": "w", "noise_percent": 50}),
            ("1", "heads-cumulative", 0.3, {"target": "s", "count": 2, "of": 4}),
            ("2", "heads-cumulative", 0.1, {"target": "s", "count": 4, "of": 4}),
            *((f"{i}", "layers", 0.4 - i / 10, {"target": "l.*.f", "mode": "progressive",
               "layers": i + 1}) for i in range(3)),
            *((f"b{i}", "layers", 0.4, {"target": "l.*.f", "mode": "backward", "layers": i})
              for i in range(3)),
        ]
    )  # fmt: skip
    assert list(found) == ["ranking", "percentages", "cumulative", "layers"]
    shares = curves(found["percentages"])
    assert {name: [(x, round(y, 9)) for x, y in line] for name, line in shares.items()} == {
        "w": [(0, 0.5), (10, 0.3), (30.5, 0.1)],
        "w, p": [(0, 0.5), (50, 0.3)],
    }
    assert curves(found["cumulative"]) == {"s": [(0, 0.5), (2, 0.3), (4, 0.1)]}
    assert [x for x, _ in curves(found["layers"])["l.*.f"]] == [0, 1, 2, 3]


def test_of_variants_that_saw_other_images_no_curve_is_drawn() -> None:
    patches: list[tuple[str, str, float, Factors]] = [
        (f"{factor} {i}", "patch", i / 10, {"target": "donor", factor: i})
        for factor in ("modules", "alpha", "percent")
        for i in (1, 2)
    ]
    assert list(drawn(patches)) == ["ranking", "percentages", "donor", "line"]
    assert list(drawn(patches, joined=False)) == ["ranking"]


def test_units_of_one_target_drawn_or_smallest_are_two_curves_and_joint_cuts_are_none() -> None:
    cut: Factors = {"target": "w", "percent": 10}
    least: Factors = {**cut, "order": "smallest"}
    found = drawn(
        [
            ("a", "units", 0.2, cut),
            ("b", "units", 0.1, {**cut, "percent": 50}),
            ("c", "hidden-units", 0.4, least),
            ("d", "hidden-units", 0.3, {**least, "percent": 50}),
            ("a+c", "pairs", 0.0, {**cut, "member_1": "a", "member_2": "c"}),
        ]
    )
    assert curves(found["percentages"]) == {
        "w": [(0, 0.5), (10, 0.2), (50, 0.1)],
        "w, smallest": [(0, 0.5), (10, 0.4), (50, 0.3)],
    }


def test_factors_of_another_kind_are_no_coordinates() -> None:
    """A run may come from a stranger."""
    found = drawn(
        [
            ("a", "heads", 0.4, {"module": 3, "head": "x"}),
            ("b", "units", 0.4, {"target": "w", "percent": "10"}),
            ("c", "units", 0.4, {"target": "w", "percent": 10**400}),
            ("d", "control", 0.4, {"control_of": 7}),
        ]
    )
    assert list(found) == ["ranking"]
