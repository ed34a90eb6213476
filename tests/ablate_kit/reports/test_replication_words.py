"""What a replication on few images does not say."""

from dataclasses import replace

import pytest

from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.uncertainty.replicates import Replicated
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.metrics.uncertainty.verdict import Outcome, Verdict
from ablate_kit.reports.replication_reports.replication_table import replication_table
from ablate_kit.reports.replication_reports.replication_words import replication_sentences
from ablate_kit.sweeps.replications.replication import Replication
from tests.ablate_kit.made_up import result_of


@pytest.mark.parametrize(
    ("images", "free", "shown"), [(19, 0, True), (31, 1, True), (300, 1, False)]
)
def test_free_is_said_with_what_few_images_may_not_show(
    images: int, free: int, shown: bool
) -> None:
    change = Change(0.5, 0.0, -0.002, 0.002, 0.001, 1.0, 1.0, None, Verdict("free", 0.01))
    like: Outcome = "free" if free else "undecided"
    row = Replicated((change,) * 3, 0.0, -0.003, 0.003, 0.001, 1.0, "free", like)
    names = ["a", "b", "c"]
    found = Replication(
        names=names,
        baselines=[result_of(one, images=images) for one in names],
        cuts=[result_of("cut", images=images)],
        rows={key: [row] for key in KEYS},
        only_in_some=[],
        statistics=Statistics(),
    )
    told = replication_sentences(found)
    assert ("may not show" in told[0]) == shown
    assert not any("by number" in one for one in told)
    heads = replace(found, cuts=[result_of("cut", images=images, factors={"head": 0})])
    assert "Heads are matched by number. Networks that" in replication_sentences(heads)[-1]
    named = replace(found, called={"cut": "neck (mean)"})
    assert not any(") (" in one for one in replication_sentences(named))
    assert any(f"; {free} {'is' if free == 1 else 'are'} free" in one for one in told[1:])
    assert any("over checkpoints and images (of" in one for one in told)
    assert any("less than 63% of all checkpoints these 3 may not show." in one for one in told)
    found.baselines[0].evaluation.counts["clusters"] = 30
    assert any("over checkpoints and clusters (of" in one for one in replication_sentences(found))
    title = replication_table(found).title
    assert title.startswith(f"{images} images in 30 clusters; unmodified: AP ")
    assert "over checkpoints and clusters, of each cut alone" in title


def test_of_a_checkpoint_that_finds_nothing_no_others_like_it_are_judged() -> None:
    """Its cuts change nothing, and were said to be free in checkpoints like these."""
    change = Change(0.0, 0.0, -0.002, 0.002, 0.001, 1.0, 1.0, None)
    row = Replicated((change,) * 3, 0.0, -0.003, 0.003, 0.001, 1.0)
    found = Replication(
        names=["a", "b", "c"],
        baselines=[result_of(one, images=300, ap=0.0) for one in "abc"],
        cuts=[result_of("cut", images=300)],
        rows={key: [row] for key in KEYS},
        only_in_some=[],
        statistics=Statistics(),
    )
    told = replication_sentences(found)
    assert told[0].startswith("No verdict: a finds next to nothing")
    assert not any("free" in one or "checkpoints like these" in one for one in told)


def test_the_table_says_why_verdicts_that_agree_are_undecided_in_all() -> None:
    """Each checkpoint's are adjusted by themselves, and those of all by a test of all."""
    change = Change(0.5, -0.03, -0.04, -0.02, 0.01, 0.01, 0.01, None, Verdict("costs", 0.01))

    def title(outcome: Outcome) -> str:
        row = Replicated((change,) * 3, -0.03, -0.04, -0.02, 0.001, 1.0, outcome)
        found = Replication(
            names=["a", "b", "c"],
            baselines=[result_of(one, images=300) for one in "abc"],
            cuts=[result_of("cut", images=300)],
            rows={key: [row] for key in KEYS},
            only_in_some=[],
            statistics=Statistics(),
        )
        return replication_table(found).title

    assert "a verdict that each of them has may be undecided in all" in title("undecided")
    assert "in all:" not in title("costs")
