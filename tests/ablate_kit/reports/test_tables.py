"""What the line above a table of changes says."""

from dataclasses import replace

import pytest

from ablate_kit.metrics.evaluate import Thresholds
from ablate_kit.metrics.fidelity import MEASURES
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import NOTHING
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.metrics.uncertainty.significance import Change, Changes
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.metrics.uncertainty.verdict import Verdict
from ablate_kit.reports.comparison_table import comparison
from ablate_kit.reports.evaluation_tables import COCO, coco_table
from ablate_kit.reports.paper_table import caption, paper_table
from ablate_kit.reports.table import Table
from tests.ablate_kit.made_up import result_of


def result(name: str, ap: float, images: int = 100) -> Result:
    thresholds = Thresholds(0.5, 0.3, False, (0.25, 0.35, 0.3, 0.3, 0.3))
    return result_of(name, value=ap, images=images, thresholds=thresholds)


def change(by: float, p: float = 0.001, detectable: float = 0.02) -> Change:
    return Change(0.5 + by, by, by - 0.01, by + 0.01, 0.005, p, p, detectable)


def changed(ap: Change, giou: Change) -> Changes:
    return dict.fromkeys(KEYS, ap) | {"giou_penalized": giou}


def test_scores_are_those_of_all_folds() -> None:
    assert "at scores 0.250 to 0.350 (best F1 of base)" in comparison([result("base", 0.5)]).title


def test_one_image_is_one_image() -> None:
    assert comparison([result("base", 0.5, 1)]).title.startswith("1 image, ")
    assert comparison([result("base", 0.5, 2_000)]).title.startswith("2,000 images, ")


@pytest.mark.parametrize(("ap", "said"), [(0.0, True), (0.009, True), (0.02, False)])
def test_a_baseline_that_finds_nothing_is_said_to_tell_nothing(ap: float, said: bool) -> None:
    table = comparison([result("base", ap), result("cut", ap)])
    assert (f"base finds next to nothing (AP {ap:.4f})" in table.title) == said


def test_a_baseline_that_is_not_above_the_margin_is_said_to_bear_no_verdict() -> None:
    wide = Statistics(margin=0.05)
    title = comparison([result("base", 0.04), result("cut", 0.0)], statistics=wide).title
    assert title.endswith(
        "base has an AP of 0.0400, which is not above the margin of 0.05: no change costs more "
        "than that, so that there is no verdict"
    )


def test_giou_against_ap_has_a_mark_of_its_own() -> None:
    results = [result("base", 0.5), result("flood", 0.4), result("cut", 0.4)]
    changes = [
        changed(change(-0.1, detectable=0.02), change(0.1)),
        changed(change(-0.1, detectable=0.04), change(-0.1)),
    ]
    table = comparison(results, changes)
    marked = ["+0.0900 to +0.1100†", "-0.1100 to -0.0900*"]
    assert [row[-1] for row in table.rows[1:]] == marked
    assert "†: significant, too, against AP's change" in table.title
    assert "a change of AP of 0.020 to 0.040, by variant, gets a star" in table.title
    assert "†" not in comparison(results[::2], changes[1:]).title
    lost = [changes[0], changed(change(-0.2, detectable=0.04), change(-0.1))]
    assert "†" not in comparison(results, lost, top=1).title


def test_a_table_explains_the_marks_that_it_has_and_no_others() -> None:
    results = [result("base", 0.5), result("cut", 0.4)]

    def told(one: Change) -> str:
        return comparison(results, [changed(one, one)]).title

    undecided = replace(change(0.0, p=1.0), verdict=Verdict("undecided", 0.01, more=190))
    assert "; no star: none has p < 0.05, adjusted (max-T) for 1 variant" in told(undecided)
    assert "; undecided (+N): about N more images would decide" in told(undecided)
    costs = replace(change(-0.1), verdict=Verdict("costs", 0.01))
    assert "; *: p < 0.05, adjusted (max-T) for 1 variant" in told(costs)
    assert "undecided" not in told(costs)


def test_a_number_that_is_not_defined_is_explained_where_there_is_one() -> None:
    results = [result("base", 0.5), result("a - b", 0.4)]
    assert "-: not defined" not in comparison(results).text()
    none = Change(None, None, *[None] * 6)
    table = comparison(results, [changed(change(-0.1), none)])
    assert "-" in table.rows[1]
    for told in (table.text(), table.markdown(), table.latex()):
        assert told.count("-: not defined") == 1
    assert r"\caption{Short. -: not defined.}" in table.latex("Short.")
    assert table.heading == f"{table.title}\n-: not defined"
    for cell in ("-†", "-*", "- ± 0.1"):
        assert Table("", ("part", "mean"), (("head - 1", cell),), ("part",)).heading
    assert Table("", ("part", "mean"), (("head - 1", "-0.1"),), ("part",)).heading == ""


def test_cuts_that_change_no_number_are_named() -> None:
    """A head for training alone is free here, which says nothing of what it is for."""
    none = Change(0.5, 0.0, None, None, 0.0, 1.0, 1.0, None)
    results = [result("base", 0.5), result("unused", 0.5), result("used", 0.5)]
    moved = changed(none, change(0.01))  # AP does not see it
    title = comparison(results, [changed(none, none), moved]).title
    assert "; unused: no number changes, as where evaluation runs nothing of what is cut" in title
    assert "no number changes" not in comparison(results[::2], [moved]).title
    twin = replace(results[1], kind="checkpoint")
    assert "no number changes" not in comparison([results[0], twin], [changed(none, none)]).title


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((0.4, 0.4), "a change of AP of 0.400 gets"),
        ((0.4, 2.3), "a change of AP of 0.400 or more, by variant, gets"),
        ((7.1, 2.3), "no change of AP, on so few images, gets"),
    ],
)
def test_no_change_is_named_that_ap_cannot_make(sizes: tuple[float, float], said: str) -> None:
    results = [result("base", 0.5), result("a", 0.4), result("b", 0.4)]
    changes = [changed(*2 * [change(-0.1, detectable=size)]) for size in sizes]
    assert f"{said} a star 4 times out of 5" in comparison(results, changes).title


@pytest.mark.parametrize(("images", "few"), [(29, True), (30, False)])
def test_few_images_get_a_note(images: int, few: bool) -> None:
    results = [result("base", 0.5, images), result("cut", 0.4, images)]
    title = comparison(results, [changed(change(-0.1), change(-0.1))]).title
    assert ("rough on fewer than 30 images" in title) == few


@pytest.mark.parametrize(("equal", "told"), [(40, False), (20, False), (19, True), (3, True)])
def test_clusters_of_very_different_sizes_get_a_note(equal: int, told: bool) -> None:
    results = [result("base", 0.5, 300), result("cut", 0.4, 300)]
    clusters = {"clusters": 40, "largest_cluster": 100, "equal_clusters": equal}
    results[0].evaluation.counts.update(clusters)
    changes = [changed(change(-0.1), change(-0.1))]
    title = comparison(results, changes).title
    assert ("the largest has 33% of the images: all 40 tell as much as" in title) == told
    assert ("rough on fewer than 30 clusters" in title) == (equal < 30)
    found = replace(NOTHING, changes=changes)
    assert (". Clusters differ in size, the largest has 33%" in caption(results, found, [])) == told


@pytest.mark.parametrize(
    ("few", "adjusted"),
    [
        ((False, False), "max-T"),
        ((True, True), "Holm"),
        ((True, False), "max-T; Holm below 19 degrees of freedom"),
    ],
)
def test_the_adjustment_that_was_made_is_named(few: tuple[bool, bool], adjusted: str) -> None:
    results = [result("base", 0.5), result("cut", 0.4), result("control", 0.4)]
    ap, giou = (replace(change(-0.1), few=one) for one in few)
    control = replace(change(-0.1), p_adjusted=None, few=True)  # which is not adjusted
    found = [changed(ap, giou), changed(control, control)]
    assert f"adjusted ({adjusted}) for 2 variants" in comparison(results, found).title


@pytest.mark.parametrize(("images", "said"), [(199, True), (200, False)])
def test_ap_of_few_images_is_said_to_be_too_high(images: int, said: bool) -> None:
    evaluation = result("base", 0.5, images).evaluation
    numbers = dict.fromkeys((key for key, _ in COCO), 0.5)
    title = coco_table("base", replace(evaluation, overall=numbers)).title
    assert (f"AP of so few images ({images}) is too high" in title) == said


def test_an_interval_that_reaches_farther_to_one_side_is_told_as_it_is() -> None:
    lopsided = replace(change(-0.1), low=-0.16, high=-0.08)
    alike = Change(0.5, 0.0, None, None, 0.0, 1.0, 1.0, None)
    results = [result("base", 0.5), result("cut", 0.4), result("idle", 0.5)]
    table = comparison(results, [changed(lopsided, lopsided), changed(alike, alike)])
    assert [row[3] for row in table.rows[1:]] == ["-0.1600 to -0.0800*", ""]
    assert "$-$0.1600 to $-$0.0800" in table.latex()
    assert "±" not in table.text()
    assert "| -0.1600 to -0.0800* |" in table.markdown()
    assert ",-0.1600 to -0.0800*," in table.csv()


@pytest.mark.parametrize(
    ("order", "said"), [("greedy", True), ("ranking", True), ("random", False)]
)
def test_cuts_that_these_images_chose_are_said_to_look_better_than_they_are(
    order: str, said: bool
) -> None:
    chosen = replace(result("cut", 0.4), factors={"order": order})
    table = comparison([result("base", 0.5), chosen], [changed(change(-0.1), change(-0.1))])
    assert ("chosen on these very images" in table.title) == said


def test_what_is_free_on_few_images_is_said_to_be_free_on_those() -> None:
    found = [changed(replace(change(0.0), verdict=Verdict("free", 0.01)), change(0.0))]
    few, many = (
        comparison([result("base", 0.5, images), result("cut", 0.5, images)], found).title
        for images in (31, 300)
    )
    assert "free: what matters on less than 9.2% of all images these 31 may not show" in few
    assert "may not show" not in many
    costs = [changed(replace(change(-0.1), verdict=Verdict("costs", 0.01)), change(0.0))]
    cut = [result("base", 0.5, 31), result("cut", 0.4, 31)]
    assert "may not show" not in comparison(cut, costs).title
    # Of a race each variant's own images count.
    raced = [result("base", 0.5, 2000), result("cut", 0.5, 104)]
    looks = Looks((104, 2000), 1)
    assert "these 104 may not show" in comparison(raced, found, looks=looks).title


def test_a_terminal_shows_the_interval_of_ap_and_stars_of_all() -> None:
    results = [result("base", 0.5), result("cut", 0.4), result("other", 0.5)]
    none = change(0.0, p=1.0)
    changes = [changed(change(-0.1), change(0.1)), changed(none, none)]
    table = comparison(results, changes, brief=True)
    assert table.header[1:7] == ("AP", "Δ AP", "95 % interval", "AP50", "Δ AP50", "F1")
    assert table.rows[0][:6] == ("base", "0.5000", "", "", "0.5000", " ")
    assert table.rows[1][3:6] == ("-0.1100 to -0.0900*", "0.4000", "-0.1000*")
    assert table.rows[1][-1].endswith("†")
    assert [row[5][-1] for row in table.rows] == [" ", "*", " "]
    assert len(comparison(results, changes).header) == len(table.header) + 3


def test_a_table_for_a_paper_has_one_change_with_its_interval() -> None:
    results = [result("base", 0.5), result("the flood", 0.4)]
    changes = [changed(change(-0.1), change(0.1))]
    table = paper_table(results, changes, "of 2")
    assert table.header == ("variant", "AP", "Δ AP", "95 % interval", "AP50", "F1", "GIoU")
    assert table.rows == (
        ("base", "0.5000", "", "", "0.5000", "0.5000", "0.5000"),
        ("the flood", "0.4000", "-0.1000", "-0.1100 to -0.0900*", "0.4000*", "0.4000*", "0.4000†"),
    )
    found = replace(NOTHING, changes=changes)
    latex = table.latex(caption(results, found, table.rows))
    assert r"0.4000$^*$" in latex
    assert "% every change with its interval" in latex
    own = r"$^\dagger$: significant, too, against AP's change: GIoU does not see false positives."
    assert latex.splitlines()[0].endswith(
        f"$^*$: p \\textless{{}} 0.05, adjusted for 1 variant (max-T). {own}}}"
    )
    changes = [changed(change(0.0, p=1.0), change(0.0, p=1.0))]
    bare = caption(results, replace(NOTHING, changes=changes), paper_table(results, changes).rows)
    assert bare.endswith("No star: none has p < 0.05, adjusted for 1 variant (max-T).")
    plain = paper_table(results)
    assert plain.header == ("variant", "AP", "Δ AP", "AP50", "F1", "GIoU")
    assert plain.rows[1][:3] == ("the flood", "0.4000", "-0.1000")


def test_few_images_are_said_to_be_too_few_to_be_free() -> None:
    found = [changed(replace(change(0.0), verdict=Verdict("undecided", 0.01)), change(0.0))]
    few, more = (
        comparison([result("base", 0.5, images), result("cut", 0.5, images)], found).title
        for images in (19, 20)
    )
    assert "rough on fewer than 30 images, and to be free takes 20" in few
    assert "to be free" not in more


def test_what_has_no_column_of_changes_has_its_own_interval() -> None:
    keys = [one.key for one in MEASURES]
    base, cut = result("base", 1.0), result("cut", 0.9)
    numbers = replace(cut.evaluation, overall=cut.evaluation.overall | dict.fromkeys(keys, 0.98))
    before = replace(base.evaluation, overall=base.evaluation.overall | dict.fromkeys(keys, 1.0))
    own = Change(0.98, -0.02, -0.05, -0.01, 0.01, 0.001, 0.001, None)
    table = comparison(
        [replace(base, evaluation=before), replace(cut, evaluation=numbers)],
        [changed(change(-0.1), change(-0.1)) | dict.fromkeys(keys, own)],
    )
    place = table.header.index(MEASURES[0].label)
    assert table.rows[1][place : place + 2] == ("0.9800", "0.9500 to 0.9900*")
