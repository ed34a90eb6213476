"""Whether boxes fit the objects, and their classes are those of a list in another order."""

import numpy as np

from ablate_kit.metrics.confusion import confusion
from ablate_kit.metrics.detections import Detections, GroundTruth

# Of at least so many boxes that fit an object, at most which share has its class, and which share
# has the class that most boxes of its class have.
_FEWEST, _RIGHT, _AGREEING = 50, 0.2, 0.7

# So many of the classes must have another one each: a detector may know one class alone.
_APART = 0.8

_NAMED = 3


def renumbered(ground_truth: GroundTruth, detections: Detections) -> list[str]:
    """A note where classes seem to be counted otherwise than in the annotations, or none.

    It looks at as many of the best detections as there are objects.
    """
    count = int((~ground_truth.ignore).sum())
    if not count or len(detections) < _FEWEST or len(ground_truth.classes) < 3:
        return []
    last = max(0, len(detections) - count)
    found = confusion(ground_truth, detections, float(np.partition(detections.scores, last)[last]))
    classes = len(found.classes)
    fits = (found.true < classes) & (found.detected < classes)
    true, detected, pairs = found.true[fits], found.detected[fits], found.pairs[fits]
    total = int(pairs.sum())
    right = int(pairs[true == detected].sum())
    if total < _FEWEST or right > _RIGHT * total:
        return []
    taken_for = {}
    for place in np.argsort(pairs, kind="stable"):
        taken_for[int(true[place])] = int(detected[place])
    agreeing = int(pairs[[taken_for[int(one)] for one in true] == detected].sum())
    if agreeing < _AGREEING * total or len(set(taken_for.values())) < _APART * len(taken_for):
        return []
    most = sorted(taken_for, key=lambda one: -int(pairs[true == one].sum()))[:_NAMED]
    names = ground_truth.classes
    told = ", ".join(
        f'"{names[found.classes[taken_for[one]]]}" on "{names[found.classes[one]]}"' for one in most
    )
    return [
        f"the classes seem to be counted otherwise than in the annotations: of {total:,} boxes "
        f"that fit an object {right:,} have its class, and most others the same wrong one ({told})"
    ]
