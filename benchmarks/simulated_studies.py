"""What simulated studies are made of: how many variants and images, and when a verdict is wrong."""

from ablate_kit.metrics.uncertainty.verdict import Verdict

MARGIN, VARIANTS = 0.01, 24
SEEN = 206  # images of a study
CHANCE = 0.09  # deviation of an image's part in a change of AP, as 206 photographs of COCO have it


def is_wrong(found: Verdict, true: float) -> bool:
    return {
        "costs": true > -found.margin,
        "free": abs(true) > found.margin,
        "gains": true < found.margin,
        "undecided": False,
    }[found.outcome]
