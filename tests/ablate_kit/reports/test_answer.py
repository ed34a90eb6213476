"""The sentence above a table says what its rows say."""

from collections.abc import Mapping

import pytest

from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.significance import Change, Changes
from ablate_kit.metrics.uncertainty.verdict import Outcome, Verdict
from ablate_kit.reports.answer import answer, word
from ablate_kit.reports.comparison_table import comparison
from tests.ablate_kit.made_up import result_of


def result(name: str, kind: str, ap: float = 0.5, **factors: str | int) -> Result:
    return result_of(name, kind, factors=factors, ap=ap, images=100)


def judged(
    outcome: Outcome | None, change: float = -0.02, more: int | None = None, p: float = 0.01
) -> Changes:
    verdict = Verdict(outcome, 0.01, p, more) if outcome else None
    one = Change(0.5, change, change - 0.005, change + 0.005, 0.002, p, p, 0.01, verdict)
    return dict.fromkeys(KEYS, one)


def of_two(changes: Changes) -> str:
    return answer([result("a", "detections"), result("b\n", "detections")], [changes])


HEADS = [result("unmodified", "unmodified"), *(result(f"h{i}", "heads", head=i) for i in range(3))]


def test_of_ablations_it_counts_them_by_what_they_are() -> None:
    changes = [judged("costs"), judged("free", 0.001), judged("undecided", -0.008, 187)]
    assert answer(HEADS, changes) == (
        "1 of 3 heads costs more than 0.01 AP; 1 is free; 1 is undecided: about 190 more images "
        "would decide it"
    )
    table = comparison(HEADS, changes)
    assert table.title.split("\n")[0] == answer(HEADS, changes)
    assert [row[-1] for row in table.rows] == ["", "costs", "free", "undecided (+190)"]
    assert "verdict: on AP at a margin of 0.01" in table.title
    assert r"undecided (+190) \\" in table.latex()
    drawn = [HEADS[0], result("r0", "heads-random", draw=0, head=1)]
    assert answer(drawn, changes[:1]).startswith("1 of 1 variants costs")
    # Steps of a search and pairs cut several heads, of which the last, or all, have this number.
    for more in ({"count": 2}, {"member_1": "h1", "member_2": "h2"}):
        several = [HEADS[0], result("step", "heads-greedy", head=1, **more)]
        assert answer(several, changes[:1]).startswith("1 of 1 variants costs")


def test_controls_are_not_judged() -> None:
    control = result("c", "heads", control_of="h0")
    told = answer([*HEADS[:2], control], [judged("costs"), judged(None)])
    assert told == "1 of 1 heads costs more than 0.01 AP; 0 are free"
    assert answer([HEADS[0], control], [judged(None)]) == ""
    assert comparison([HEADS[0], control], [judged(None)]).header[-1] == "95 % interval"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (judged("gains", 0.03), "b\\n is better than a by more than 0.01 AP: AP +0.0300, 95 % "
         "interval +0.0250 to +0.0350"),
        (judged("costs", -0.03), "b\\n is worse than a by more than 0.01 AP: AP -0.0300, 95 % "
         "interval -0.0350 to -0.0250"),
        (judged("free", 0.001), "b\\n is as good as a, within 0.01 AP: AP +0.0010, 95 % interval "
         "-0.0040 to +0.0060"),
        (judged("undecided", 0.012, 512), "b\\n is better than a, undecided whether by more than "
         "0.01 AP: AP +0.0120, 95 % interval +0.0070 to +0.0170; about 520 more images would "
         "decide"),
        (judged("undecided", 0.008, p=0.3), "whether b\\n is better than a is undecided: "
         "AP +0.0080, 95 % interval +0.0030 to +0.0130"),
    ],
)  # fmt: skip
def test_of_two_detectors_it_says_which_is_better(changes: Changes, told: str) -> None:
    assert of_two(changes) == told


def test_as_good_in_ap_and_worse_at_the_scores_of_the_other_is_told() -> None:
    falls = {
        "f1_calibrated": judged("free", -0.02)["AP"],
        "giou_penalized": judged("free", -0.1)["AP"],
    }
    alike = dict(judged("free", 0.001))
    assert of_two(alike | falls).endswith(
        "; at the score thresholds of a it is significantly worse: F1 -0.0200, GIoU -0.1000"
    )
    rises = {"giou_penalized": judged("free", 0.1)["AP"]}
    assert "thresholds" not in of_two(alike | rises)
    assert "thresholds" not in of_two(dict(judged("costs", -0.1)) | falls)


def test_what_has_no_interval_is_not_told() -> None:
    none = Change(0.5, -0.1, None, None, None, None, None, None, Verdict("undecided", 0.01))
    unknown: Mapping[str, Change] = dict.fromkeys(KEYS, none)
    assert of_two(unknown) == "whether b\\n is better than a cannot be told from these images"


def test_of_several_detectors_it_names_the_best() -> None:
    aps = (0.5, 0.4, 0.6, 0.51)
    results = [result(name, "detections", ap) for name, ap in zip("abcd", aps, strict=True)]
    changes = [judged("costs", -0.1), judged("gains", 0.1), judged("undecided", 0.01)]
    assert answer(results, changes) == (
        "of 3 compared with a, at a margin of 0.01 AP: 1 worse, 0 as good, 1 better, 1 undecided; "
        "the highest AP is that of c: AP +0.1000, 95 % interval +0.0950 to +0.1050"
    )
    # Its own interval leaves out 0, and yet it has no star among so many.
    chance = [changes[0], judged("undecided", 0.1, p=0.2), changes[2]]
    assert answer(results, chance).endswith("+0.1050, which the best of 3 may have by chance")
    assert answer(results[:2], changes[:1]).startswith("b is worse")
    assert answer([*results[:2], results[1]], changes[:1] * 2).endswith("none has a higher AP")
    table = comparison(results, changes, top=2)
    assert [row[0] for row in table.rows] == ["a", "c", "d"]
    assert [row[-1] for row in table.rows] == ["", "better", "undecided"]
    assert "\nthe 2 of 3 with the highest AP" in table.title
    assert "1 worse, 0 as good" in table.title


def test_the_rows_that_cost_most_come_first_where_few_are_shown() -> None:
    results = [HEADS[0], *(result(f"h{i}", "heads", 0.5 - i / 10) for i in range(4))]
    changes = [judged("costs", -i / 10) for i in range(4)]
    table = comparison(results, changes, top=2)
    assert [row[0] for row in table.rows] == ["unmodified", "h3", "h2"]
    assert "the 2 of 4 that cost most AP" in table.title
    assert len(comparison(results, changes, top=4).rows) == 5
    assert comparison(results, None, top=2).rows[1][0] == "h3"
    # In a race, AP is of the images that a variant has seen, of few images too high.
    raced = [HEADS[0], *(result(f"h{i}", "heads", 0.5 + i / 10) for i in range(4))]
    assert comparison(raced, changes, top=2).rows[1][0] == "h3"


def test_words_of_detectors_are_their_own() -> None:
    assert word(Verdict("free", 0.01), detectors=True) == "as good"
    assert word(Verdict("undecided", 0.01, more=1234)) == "undecided (+1,300)"
    assert word(None) == ""
