"""What is said of two checkpoints does not go beyond the test."""

from dataclasses import replace

import pytest

from ablate_kit.ablations.kinds.donor_modules import DONOR, KIND
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.significance import Change, Changes
from ablate_kit.reports.patch_words import account
from tests.ablate_kit.made_up import result_of


def result(name: str, **factors: str | float) -> Result:
    return result_of(name, KIND, factors=factors)


def change(by: float, p: float) -> Changes:
    return dict.fromkeys(KEYS, Change(0.5, by, by - 0.015, by + 0.015, 0.008, 0.03, p, 0.01))


@pytest.mark.parametrize(("p", "significant"), [(0.04, True), (0.2, False)])
def test_what_is_not_significant_is_not_said_to_be_nothing(p: float, significant: bool) -> None:
    results = [result("a"), result(DONOR), result("neck", module="neck")]
    told = account("a", "b", results, [change(0.02, p), change(0.01, 0.5)], None)
    assert told[0].startswith("b changes AP by +0.0200 against a, 95 % interval")
    says = ", not significantly among 2 variants: these images show nothing to account for"
    assert told[0].endswith(says) != significant
    assert told[1] == "the one module put in alone does not change AP significantly"


@pytest.mark.parametrize(("by", "said"), [(0.04, False), (0.047, False), (0.05, True)])
def test_a_share_is_told_of_what_is_known_well(by: float, said: bool) -> None:
    """Of a change of fewer standard errors, here of 0.008, a share is mostly chance."""
    results = [result("a"), result(DONOR), result("neck", module="neck")]
    told = account("a", "b", results, [change(by, 0.001), change(0.025, 0.001)], None)
    assert told[1] == "put in alone, significantly: neck +0.0250" + " (50% of it)" * said


@pytest.mark.parametrize(
    ("left", "p", "said"), [(0.0, 0.01, True), (0.4, 0.01, False), (0.005, 0.3, False)]
)
def test_of_models_with_nothing_between_them_single_modules_say_nothing(
    left: float, p: float, said: bool
) -> None:
    results = [result("a"), result(DONOR, alpha=1.0), result("neck", module="neck")]
    results.append(result("alpha 0.5", alpha=0.5))
    between = dict.fromkeys(KEYS, replace(change(left - 0.5, p)["AP"], value=left))
    told = account("a", "b", results, [change(0.02, 0.01), change(-0.5, 0.01), between], None)
    assert ("between the two (alpha 0.5) next to nothing is left: units" in told[1]) == said
    assert ("put in alone, significantly: neck -0.5000" in told[1]) == (not said)
