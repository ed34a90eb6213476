"""What a study says: nothing that its verdicts do not bear."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty import bootstrap
from ablate_kit.metrics.uncertainty.bootstrap import Floats, Sampled, Samples
from ablate_kit.metrics.uncertainty.comparison import NOTHING, Comparison
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.metrics.uncertainty.verdict import Outcome, Verdict
from ablate_kit.reports.study_reports import parts_together
from ablate_kit.reports.study_reports.findings import Findings
from ablate_kit.reports.study_reports.left_out import left_out
from ablate_kit.reports.study_reports.model_map import model_map
from ablate_kit.reports.study_reports.sentences import sentences
from ablate_kit.reports.study_reports.titles import titles, titles_in
from ablate_kit.studies.noted import Noted, NotedPart

AP = 0.5
IMAGES = 60


class Numbers:
    """As much of an ``Evaluation`` as sentences look at."""

    def __init__(self, ap: float) -> None:
        self.overall = {"AP": ap}
        self.counts = {"images": 40}

    def seen(self, images: int) -> "Numbers":
        self.counts = {"images": images}
        return self


def result(name: str, ap: float, **factors: Any) -> Result:
    numbers: Any = Numbers(ap)
    return Result(name, "skip", numbers, name, lambda: pytest.fail("not needed"), factors)


def change(by: float, outcome: Outcome | None, more: int | None = None) -> Change:
    verdict = None if outcome is None else Verdict(outcome, 0.01, 0.01, more)
    significant = 0.01 if outcome in ("costs", "gains") else 0.9
    return Change(AP + by, by, by - 0.02, by + 0.02, 0.01, 0.01, significant, 0.03, verdict)


def part(name: str, depth: int = 0, parent: int | None = None, **values: Any) -> NotedPart:
    given: dict[str, Any] = {
        "kind": "layer", "elements": 8, "how": "removed", "variant": name, "state": "cut",
    }  # fmt: skip
    return NotedPart(part=name, depth=depth, parent=parent, **(given | values))


def findings(
    rows: dict[str, Change], parts: list[NotedPart], ap: float = AP, **noted: Any
) -> Findings:
    study = Noted(budget="10m", images=40, total=100, margin=0.01, parts=parts, **noted)
    results = [
        result("unmodified", ap),
        *(result(name, one.value or 0) for name, one in rows.items()),
    ]
    changes = [{"AP": one} for one in rows.values()]
    by_class = [[change(-0.3, "costs"), change(-0.1, None)] for _ in rows]
    compared: Comparison = replace(
        NOTHING, changes=changes, classes=["cat", "dog"], by_class=by_class
    )
    return Findings(study, results, compared)


PARTS = [
    part("backbone"),
    part("neck", how="zero"),
    part("decoder"),
    part("decoder.0", 1, 2),
    part("decoder.0", 2, 3, head=1, variant="decoder.0-head1"),
    part("decoder.1", 1, 2, state="not afforded"),
]
ROWS = {
    "backbone": change(-0.48, "costs"),
    "neck": change(-0.1, "costs"),
    "decoder": change(-0.02, "undecided", 340),
    "decoder.0": change(0.001, "free"),
    "decoder.0-head1": change(-0.002, "free"),
    "all-free-together": change(-0.2, "costs"),
}


def test_every_sentence_rests_on_verdicts() -> None:
    joint = {"all-free-together": ["decoder.0", "decoder.0-head1"]}
    told = sentences(findings(ROWS, PARTS, together=joint))
    text = "\n".join(one.text for one in told)
    assert "AP of 0.5000 on 40 images. 2 of its 3 top-level parts cost more than 0.01 AP" in text
    assert "most of all backbone (removed: AP -0.4800, -0.5000 to -0.4600); neck (set to" in text
    assert "neck (set to zero: AP -0.1000, -0.1200 to -0.0800)" in text
    assert told[0].text == (
        "In short: of 5 cuts, 1 more not reached, 2 cost more than 0.01 AP, most of all backbone "
        "here, but others may cost as much; 2 are free alone, not together (decoder.0, decoder.0 "
        "head 1); 1 is undecided."
    )
    assert "The one attention head that was cut is not known to cost more" in text
    assert "free alone, within 0.01 AP: decoder.0 (removed), decoder.0 head 1 (removed)." in text
    assert (
        "Cut at once, 2 parts that looked free alone: together they are not free (AP -0.2000"
        in text
    )
    # Of the costliest that leaves anything: the class whose loss is significant, and no other.
    assert "Without neck, 1 of 2 classes loses significantly by itself: cat (AP -0.3000" in text
    assert "dog" not in text
    assert "1 of 5 cuts is undecided; these 100 images cannot decide it: that would take" in text
    assert "The budget of 10m on 40 of 100 images did not reach 1 cut: decoder.1." in text
    assert {row for one in told for row in one.rows} <= ROWS.keys()


@pytest.mark.parametrize(
    ("ap", "said"),
    [(0.031, " 40 images; the margin of 0.01 is 32% of it. "), (0.2, " 40 images. ")],
)
def test_a_margin_that_is_much_of_the_ap_is_said_to_be(ap: float, said: str) -> None:
    told = "\n".join(one.text for one in sentences(findings(ROWS, PARTS, ap)))
    assert f"an AP of {ap:.4f} on{said}" in told


def test_of_joint_cuts_of_fewer_parts_the_largest_that_is_free_is_told() -> None:
    names = ["a", "b", "c", "d"]
    rows = {name: change(0.0, "free") for name in names} | {
        "all-free-together": change(-0.2, "costs"),
        "2-of-free-together": change(0.001, "free"),
        "3-of-free-together": change(0.002, "free"),
    }
    joint = {
        "all-free-together": names,
        "2-of-free-together": names[:2],
        "3-of-free-together": names[:3],
    }
    parts = [part(name) for name in names]
    text = "\n".join(one.text for one in sentences(findings(rows, parts, together=joint)))
    assert "Cut at once, the 3 of them that cost least alone: they are free together" in text
    assert "the 2 of them" not in text
    # These were chosen, all at once were not.
    assert text.count("its parts were ranked on these very images") == 1
    rows["3-of-free-together"] = rows["2-of-free-together"] = change(-0.1, "costs")
    text = "\n".join(one.text for one in sentences(findings(rows, parts, together=joint)))
    assert "Cut at once, the 2 of them that cost least alone: together they are not free" in text
    assert "the 3 of them" not in text


def test_what_is_undecided_is_called_neither_free_nor_costly() -> None:
    rows = {name: change(-0.3, "undecided") for name in ("backbone", "neck", "decoder")}
    text = "\n".join(one.text for one in sentences(findings(rows, PARTS[:3])))
    assert "None of its 3 top-level parts is known to cost more than 0.01 AP" in text
    assert "No part is shown to be free" in text
    assert "In short: of 3 cuts, none is known to cost more than 0.01 AP; none is shown" in text
    assert "3 of 3 cuts are undecided, too close to the margin for more images to help." in text
    assert " lose" not in text


def test_parts_that_make_up_a_whole_are_named_where_more_lies_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Layers make up a decoder's cut, and its class heads lie beside them."""
    monkeypatch.setattr(parts_together, "_beyond", lambda *_: [change(-0.1, "costs")])
    names = ["decoder.layers.0", "decoder.layers.1"]
    parts = [part("decoder", made_of=names), *(part(name, 1, 0) for name in names)]
    rows = {one.part: change(-0.1, "costs") for one in parts}
    (told,) = parts_together.compensation(findings(rows, parts), AP)
    assert told.text.startswith("The 2 parts of decoder stand in for each other: together")
    parts.append(part("decoder.heads", 1, 0))
    (told,) = parts_together.compensation(findings(rows, parts), AP)
    assert told.text.startswith("The 2 parts of decoder (decoder.layers.{0-1}) stand in for each")


def test_where_all_is_lost_no_interval_reaches_below_what_there_was() -> None:
    """The change is the unmodified AP then, and its interval is of that."""
    row = replace(change(-0.497, "costs"), low=-0.6, high=-0.4)
    text = "\n".join(one.text for one in sentences(findings({"neck": row}, [part("neck")])))
    assert "neck (removed: AP -0.4970, next to nothing is left)" in text
    assert "-0.6000" not in text


def test_the_last_sentence_says_what_all_others_rest_on() -> None:
    found = findings(ROWS, PARTS, together={"all-free-together": ["decoder.0", "decoder.0-head1"]})
    last = sentences(found)[-1].text
    assert last.startswith("Changes of AP are against the unmodified model on the same images, ")
    assert "95 % interval over images, and are named in their order here; verdicts are at a" in last
    assert "adjusted for 6 cuts (max-T): 5 of one part each, 1 of several parts at once. " in last
    assert "AP of so few images (40) is too high" in last
    assert last.endswith("this checkpoint: for others, such as other seeds, run ablate replicate.")
    first: Any = Numbers(AP).seen(200)
    enough = [replace(found.results[0], evaluation=first), *found.results[1:]]
    assert "too high" not in sentences(replace(found, results=enough))[-1].text
    own: Any = Numbers(AP)
    own.overall["matched_iou"] = 1.0  # without labels its own boxes stand for objects
    unlabelled = [replace(found.results[0], evaluation=own), *found.results[1:]]
    assert "too high" not in sentences(replace(found, results=unlabelled))[-1].text
    beside = ROWS | {"neck-zero": change(-0.1, "costs")}
    joint = {"all-free-together": ["decoder.0", "decoder.0-head1"]}
    both = sentences(findings(beside, PARTS, together=joint, zeros={"neck-zero": "neck"}))[-1].text
    assert ": 5 of one part each, 1 by zero beside the mean, 1 of several parts at once. " in both
    alone = {one.variant: ROWS[one.variant] for one in PARTS[:3]}
    assert "adjusted for 3 cuts (max-T). AP" in sentences(findings(alone, PARTS[:3]))[-1].text


def test_every_row_has_a_name_that_is_no_file_name() -> None:
    joint = {"all-free-together": ["a", "b", "c"], "2-of-free-together": ["a", "b"]}
    parts = [part("a", head=0, variant="a"), part("b"), part("c")]
    assert titles(findings({}, parts, together=joint, controls=["a"]).study) == {
        "a": "a head 0 (removed)",
        "b": "b (removed)",
        "c": "c (removed)",
        "a-control0": "a head 0 (random control)",
        "all-free-together": "3 parts that looked free, at once",
        "2-of-free-together": "2 parts that looked free and cost least, at once",
    }


def test_of_what_changes_nothing_there_is_no_interval_from_zero_to_zero() -> None:
    nothing = replace(change(0.0, "free"), low=0.0, high=0.0, error=0.0)
    rows = {"a": nothing, "b": nothing, "all-free-together": nothing}
    joint = {"all-free-together": ["a", "b"]}
    told = sentences(findings(rows, [part("a"), part("b")], together=joint))
    text = "\n".join(one.text for one in told)
    assert "Cut at once, 2 parts that looked free alone: they are free together, too (AP " in text
    assert "too (AP unchanged)." in text


def test_what_is_free_in_ap_and_not_in_f1_is_said_to_be() -> None:
    parts = [part("neck"), part("levels", how="zero")]
    rows = {"neck": change(-0.2, "costs"), "levels": change(0.0, "free")}
    found = findings(rows, parts)
    lower = [{**row, "f1_calibrated": change(-0.17, "costs")} for row in found.compared.changes]
    found = replace(found, compared=replace(found.compared, changes=lower))
    text = "\n".join(one.text for one in sentences(found))
    assert "1 is free alone, within 0.01 AP: levels (set to zero). At the unmodified" in text
    assert "F1 falls significantly without levels (F1 -0.1700)." in text
    assert "What matters on less than 7.2% of all images these 40 may not show." in text
    wide = replace(found.compared, statistics=replace(found.compared.statistics, margin=0.08))
    few = [one.text for one in sentences(replace(found, compared=wide))]
    assert not any("may not show" in one for one in few)


def test_a_study_that_could_cut_nothing_says_so() -> None:
    parts = [part("neck", state="not afforded")]
    first = sentences(findings({}, parts))[0]
    assert first.text.startswith("Nothing was cut: a budget of 10m is not enough for one of its 1")


def test_parts_that_no_budget_was_left_for_are_not_counted_as_cut() -> None:
    parts = [*PARTS[:2], part("decoder", state="not afforded")]
    rows = {name: ROWS[name] for name in ("backbone", "neck")}
    text = "\n".join(one.text for one in sentences(findings(rows, parts)))
    assert "All of the 2 that were cut of its 3 top-level parts cost more than 0.01 AP" in text


def test_of_a_model_that_finds_nothing_nothing_is_said() -> None:
    (only,) = sentences(findings(ROWS, PARTS, ap=0.004))
    assert only.text.startswith("Nothing can be said of this model's parts")
    assert only.rows == ()


def test_the_map_has_a_box_for_each_part_in_their_order() -> None:
    nasty = part("x<script>", state="not afforded")
    found = findings(ROWS, [*PARTS, nasty])
    page = str(model_map(found.study, found.ap()))
    assert "<script>" not in page
    names = [">backbone<", ">neck<", ">decoder<", ">0<", ">head 1<", ">1<", ">x&lt;script&gt;<"]
    places = [page.index(name) for name in names]
    assert places == sorted(places)
    counts = {kind: page.count(f'class="part {kind}"') for kind in
              ("costs", "free", "undecided", "uncut")}  # fmt: skip
    assert counts == {"costs": 2, "free": 2, "undecided": 1, "uncut": 2}
    # The verdict in words, too, for who does not see colors.
    assert {kind: page.count(f"<small>{kind}: ") for kind in ("costs", "free", "undecided")} == {
        "costs": 2, "free": 2, "undecided": 1
    }  # fmt: skip


def test_images_that_would_decide_are_those_that_there_are() -> None:
    parts = [part(name) for name in ("a", "b", "c", "d")]
    rows = {
        "a": change(-0.01, "undecided", 55),
        "b": change(-0.01, "undecided", 60),
        "c": change(-0.01, "undecided", 61),
        "d": change(-0.01, "undecided"),
    }
    text = "\n".join(one.text for one in sentences(findings(rows, parts)))
    assert (
        "4 of 4 cuts are undecided; about 60 more images, of 60 that were not used, would decide 2 "
        "of them, if they are what they seem: a larger budget in a new "
        "folder; these 100 images cannot decide 1 of them: that would take about "
        "110, if they are what they seem; 1 lies too close to the margin for more images to help."
    ) in text


def test_what_was_not_reached_is_told_by_kind_with_the_budget_for_it() -> None:
    waiting: dict[str, Any] = {"state": "not afforded"}
    parts = [
        part("backbone"),
        *(part(f"backbone.{i}", 1, 0, kind="block", **waiting) for i in range(3)),
        part("backbone.neck", 1, 0, kind="group", **waiting),
        part("decoder", **waiting),
        *(
            part("decoder.0", 1, 5, head=i, kind="head", variant=f"head{i}", **waiting)
            for i in range(8)
        ),
        part("decoder.last", 1, 5, variant="head7", **waiting),  # cut alike: one cut
        part("backbone.shell", 1, 0, variant="backbone"),
        part("neck", state="cut"),
        part("neck.0", 1, 16, state="inside a free part"),
    ]
    told = left_out(findings({}, parts, needed="7m").study)
    assert told == (
        "The budget of 10m on 40 of 100 images did not reach 13 cuts: 3 blocks and 1 other part of "
        "backbone; 1 layer at the top; 8 heads of decoder; 1 more lie inside of parts that looked "
        "free. At this run's speed, about 7m would be enough for all: the same command with "
        "--budget 7m goes on from here."
    )
    assert left_out(findings({}, parts[:1]).study) == ""
    told = left_out(findings({}, parts, needed="5,000 image passes").study)
    assert told.endswith(
        " At most 5,000 image passes would be enough for all: the same command with --budget "
        "'5,000 image passes' goes on from here."
    )


def test_zero_stands_beside_the_mean(tmp_path: Path) -> None:
    parts = [part("neck", how="mean", variant="neck-mean"), part("decoder")]
    rows = {
        "neck-mean": change(-0.1, "costs"),
        "neck": change(-0.3, "costs"),
        "decoder": change(-0.2, "costs"),
    }
    found = findings(rows, parts, zeros={"neck": "neck-mean"})
    (told,) = (one for one in sentences(found) if "beside it, zero" in one.text)
    assert "neck (mean: AP -0.1000, zero: AP -0.3000, -0.3200 to -0.2800)" in told.text
    assert told.rows == ("neck-mean", "neck")
    assert titles(found.study) == {
        "neck-mean": "neck (mean)", "neck": "neck (set to zero)", "decoder": "decoder (removed)"
    }  # fmt: skip
    assert titles_in(tmp_path) == {}
    found.study.keep(tmp_path)
    assert titles_in(tmp_path) == titles(found.study)
    page = str(model_map(found.study, found.ap()))
    assert "-0.100 AP, mean; -0.300, zero" in page
    assert "-0.200 AP, removed" in page


def test_a_later_joint_cut_of_all_that_is_free_is_the_one_that_is_told() -> None:
    names = ["a", "b", "c"]
    rows = {name: change(0.0, "free") for name in names} | {
        "all-free-together": change(-0.2, "costs"),
        "all-free-together-2": change(0.001, "free"),
    }
    joint = {"all-free-together": names[:2], "all-free-together-2": names}
    found = findings(rows, [part(name) for name in names], together=joint)
    text = "\n".join(one.text for one in sentences(found))
    assert "Cut at once, 3 parts that looked free alone: they are free together" in text
    assert "2 parts that looked free" not in text
    assert "3 are free, alone and together" in text


def test_random_cuts_beside_heads_are_counted() -> None:
    def told(heads: int, by: float = -0.03) -> str:
        rows = {f"head{i}": change(-0.1 * (i + 1), "costs") for i in range(heads)}
        rows |= {f"head{i}-control0": change(by * (i + 1), None) for i in range(heads)}
        found = findings(rows, [part("a", head=i, variant=f"head{i}") for i in range(heads)])
        results = [
            replace(one, kind="control", factors={"control_of": one.name.removesuffix("-control0")})
            if "control" in one.name
            else one
            for one in found.results
        ]
        return "\n".join(one.text for one in sentences(replace(found, results=results)))

    assert "Beside one head as many random elements" in told(1)
    assert "that changes AP by -0.0300, the head by -0.1000." in told(1)
    assert (
        "Beside 2 heads as many random elements of the same tensors were cut: the costliest of "
        "these random cuts lowers AP by 0.0600, the costliest of the heads lowers AP by 0.2000."
    ) in told(2)
    # What gains, or changes nothing that is printed, costs nothing.
    for by in (0.0009, -0.00001):
        assert "were cut: none of these random cuts lowers AP, the costliest of" in told(2, by)


def test_no_more_images_are_asked_for_than_there_are() -> None:
    found = findings({"a": change(-0.01, "undecided", 129)}, [part("a")])
    found = replace(found, study=found.study.model_copy(update={"total": 169}))
    text = "\n".join(one.text for one in sentences(found))
    assert "about 129 more images, of 129 that were not used, would decide it" in text


def test_clusters_that_would_decide_are_no_images() -> None:
    rows = {"a": change(-0.01, "undecided", 12), "b": change(-0.01, "undecided")}
    found = findings(rows, [part("a"), part("b")])
    found.results[0].evaluation.counts["clusters"] = 8
    text = "\n".join(one.text for one in sentences(found))
    assert (
        "2 of 2 cuts are undecided; about 12 more clusters would decide 1 of them, if they are "
        "what they seem; 1 lies too close to the margin for more clusters to help."
    ) in text


def test_clusters_of_very_different_sizes_are_told() -> None:
    found = findings({"a": change(-0.01, "undecided", 12)}, [part("a")])
    counts = found.results[0].evaluation.counts
    counts |= {"images": 200, "clusters": 30, "largest_cluster": 104, "equal_clusters": 18}
    assert "differ in size" not in sentences(found)[-1].text
    counts["equal_clusters"] = 3
    assert (
        "Clusters differ in size, the largest has 52% of the images: all 30 tell as much as 3 of "
        "one size, and where larger ones change more, up to one interval in ten misses the truth. "
    ) in sentences(found)[-1].text


def test_free_together_is_said_of_the_parts_that_were_cut_at_once_and_no_others() -> None:
    """A study is steered by verdicts one by one; those of its report are adjusted for all."""
    names = ["a", "b", "c", "d"]
    rows = {name: change(0.0, "free") for name in names}
    rows |= {"d": change(-0.008, "undecided"), "all-free-together": change(-0.2, "costs")}
    parts = [part(name) for name in names]

    def told(**joint: list[str]) -> list[str]:
        found = findings(rows, parts, together={"all-free-together": joint["of"]})
        return [one.text for one in sentences(found)]

    short, *rest = told(of=["a", "b", "c"])
    assert "3 are free alone, not together (c, b, a); 1 is undecided." in short
    assert any("Cut at once, 3 parts that looked free alone: together" in one for one in rest)
    short, *rest = told(of=names)  # of which d is to blame, for all that is known
    assert "3 are free alone (c, b, a); 1 is undecided; cut at once, the 4 that looked free as" in (
        short
    )
    assert short.endswith("as it ran are not free.")
    assert any("4 parts that looked free alone (3 of them are found free): tog" in x for x in rest)
    rows["all-free-together"] = change(0.0, "free")
    short, *rest = told(of=["a", "b"])  # with a larger margin, more is free than was cut at once
    assert "3 are free alone (c, b, a); 1 is undecided; cut at once, the 2 that" in short
    assert "and together" not in short


def test_sentences_name_the_margin_that_their_verdicts_are_asked_for() -> None:
    found = findings(ROWS, PARTS)
    asked = replace(found.compared.statistics, margin=0.05)
    found = replace(found, compared=replace(found.compared, statistics=asked))
    text = "\n".join(one.text for one in sentences(found))
    assert text.count("more than 0.05 AP") == 4
    assert "free alone, within 0.05 AP" in text
    assert "0.01 AP" not in text


def test_what_costs_most_of_all_is_a_whole_part_only_where_that_costs_as_much() -> None:
    parts = [part("neck"), part("decoder"), part("decoder.0", 1, 1)]
    rows = {
        "neck": change(-0.02, "costs"),
        "decoder": change(-0.1, "undecided"),
        "decoder.0": change(-0.3, "costs"),
    }
    assert "most of all decoder.0 here" in sentences(findings(rows, parts))[0].text
    rows["decoder"] = change(-0.295, "costs")
    assert "most of all decoder here" in sentences(findings(rows, parts))[0].text


def told_of(changes: dict[str, Floats], **noted: Any) -> Findings:
    """Of cuts, by what each image says of their changes of AP, with their samples."""
    drawn = bootstrap.draws(IMAGES, 300, 0) / IMAGES
    rest = bootstrap.left_out(IMAGES, IMAGES, 0) / (IMAGES - 1)

    def samples(said: Floats) -> Samples:
        means = said @ drawn
        one = Sampled(float(means[0]), means[1:], said @ rest, IMAGES, ratio=False)
        return Samples({"AP": one}, ())

    rows = {
        name: change(float(said.mean()), "costs" if said.mean() < 0 else "gains")
        for name, said in changes.items()
    }
    found = findings(rows, **noted)
    compared = replace(
        found.compared,
        baseline=samples(np.zeros(IMAGES)),
        samples=[samples(one) for one in changes.values()],
    )
    return replace(found, compared=compared)


@pytest.mark.parametrize("sign", [-1, 1])
def test_what_changes_most_is_more_than_chance_or_said_to_be_that(sign: int) -> None:
    rng = np.random.default_rng(4)

    def short(**means: float) -> str:
        said = {name: sign * mean + rng.normal(0, 0.03, IMAGES) for name, mean in means.items()}
        return sentences(told_of(said, parts=[part(one) for one in means]))[0].text

    without = "without " if sign > 0 else ""
    clear = short(neck=0.3, decoder=0.2, backbone=0.1)
    assert f", most of all {without}neck; " in clear or clear.endswith(f"{without}neck.")
    told = short(neck=0.2, decoder=0.2, backbone=0.1)
    assert f" here, but others may {'bring' if without else 'cost'} as much" in told


@pytest.mark.parametrize(
    ("own", "count", "said"),
    [
        (0.3, 2, "; 2 of the heads cost significantly more than theirs (adjusted for 3)."),
        (0.1, 2, "; none of the heads costs significantly more than theirs (adjusted for 3)."),
        (0.3, 1, "; it costs significantly more."),
        (0.1, 1, "; it is not shown to cost more."),
    ],
)
def test_heads_cost_more_than_random_elements_by_a_test(own: float, count: int, said: str) -> None:
    """Heads beside which there is a control are the costliest of those that were cut."""
    rng = np.random.default_rng(6)
    drawn = {f"head{i}": rng.normal(-own, 0.03, IMAGES) for i in range(3)}
    drawn |= {f"head{i}-control0": rng.normal(-0.1, 0.03, IMAGES) for i in range(count)}
    found = told_of(drawn, parts=[part("a", head=i, variant=f"head{i}") for i in range(3)])
    results = [
        replace(one, kind="control", factors={"control_of": one.name.removesuffix("-control0")})
        if "control" in one.name
        else one
        for one in found.results
    ]
    told = [one.text for one in sentences(replace(found, results=results))]
    (random,) = (one for one in told if one.startswith("Beside"))
    assert random.endswith(said)


def test_what_costs_most_is_not_compared_with_what_it_is_inside_of() -> None:
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 0.03, IMAGES)
    said = {"decoder": shared - 0.3, "decoder.0": shared - 0.2999, "neck": shared - 0.1}
    parts = [part("decoder"), part("decoder.0", 1, 0), part("neck")]
    assert ", most of all decoder;" in sentences(told_of(said, parts=parts))[0].text


def test_classes_of_the_costliest_cut_are_adjusted_for_all_that_it_might_be() -> None:
    """Of 24 cuts that cost alike, a class that does not change was named in up to 22 % of studies:
    the costliest was chosen for chance that is in its classes, too."""
    names = [f"blocks.{i}" for i in range(6)]
    rows = {name: change(-0.1 - 0.01 * i, "costs") for i, name in enumerate(names)}
    found = findings(rows, [part(one) for one in names])
    clear = replace(change(-0.3, "costs"), p_adjusted=0.001)
    by_class = [[clear, replace(change(-0.1, "costs"), p_adjusted=0.01)] for _ in rows]
    found = replace(found, compared=replace(found.compared, by_class=by_class))
    (told,) = (one.text for one in sentences(found) if "significantly by" in one.text)
    assert told.startswith(
        "Without blocks.5, 1 of 2 classes loses significantly by itself (adjusted for 6 such cuts, "
        "too): cat (AP -0.3000"
    )
    assert "dog" not in told


def test_of_classes_that_gain_it_is_not_said_that_the_images_do_not_tell() -> None:
    found = findings({"neck": change(-0.2, "costs")}, [part("neck")])
    by_class = [[change(-0.3, "costs"), change(0.1, "gains")]]
    found = replace(found, compared=replace(found.compared, by_class=by_class))
    (told,) = (one.text for one in sentences(found) if one.text.startswith("Without neck"))
    assert told.endswith("1 gains significantly.")


def test_of_a_single_class_nothing_is_said_twice() -> None:
    found = findings({"neck": change(-0.2, "costs")}, [part("neck")])
    compared = replace(found.compared, classes=["cat"], by_class=[[change(-0.2, "costs")]])
    texts = [one.text for one in sentences(replace(found, compared=compared))]
    assert not [text for text in texts if "significantly by" in text]


def test_parts_that_hurt_are_named() -> None:
    names = [f"blocks.{i}" for i in range(6)]
    by = {name: change(0.1 + 0.01 * i, "gains") for i, name in enumerate(names)}
    found = findings({"neck": change(-0.2, "costs"), **by}, [part(one) for one in ["neck", *names]])
    texts = [one.text for one in sentences(found)]
    (told,) = (one for one in texts if "better by more than" in one)
    assert told.startswith("Without 6 parts the detector is better by more than 0.01 AP, cut one")
    assert "most of all without blocks.5 (removed: AP +0.1500, +0.1300 to +0.1700)" in told
    assert "without 6 the detector is better, most of all without blocks.5 here" in texts[0]
    one = findings({"a": change(0.1, "gains")}, [part("a")])
    texts = [sentence.text for sentence in sentences(one)]
    assert any(text.startswith("Without 1 part the detector is better") for text in texts)
    assert "without 1 the detector is better (a)" in texts[0]
