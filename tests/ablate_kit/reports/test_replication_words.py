"""What a replication on few images does not say."""

from dataclasses import replace

import pytest

from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.uncertainty.replicates import Replicated
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.metrics.uncertainty.verdict import Verdict
from ablate_kit.reports.replication_reports.replication_words import replication_sentences
from ablate_kit.sweeps.replication import Replication
from tests.ablate_kit.made_up import result_of


@pytest.mark.parametrize(
    ("images", "free", "shown"), [(19, 0, True), (31, 1, True), (300, 1, False)]
)
def test_free_is_said_with_what_few_images_may_not_show(
    images: int, free: int, shown: bool
) -> None:
    change = Change(0.5, 0.0, -0.002, 0.002, 0.001, 1.0, 1.0, None, Verdict("free", 0.01))
    row = Replicated((change,) * 3, 0.0, -0.003, 0.003, 0.001, 1.0, "free")
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
    named = replace(found, called={"cut": "neck (mean)"})
    assert not any(") (" in one for one in replication_sentences(named))
    assert any(f"; {free} {'is' if free == 1 else 'are'} free" in one for one in told[1:])
