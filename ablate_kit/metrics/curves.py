"""Precision, recall and F1 as functions of the score threshold."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.matching import Matches, Outcome

Curve = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curves:
    """One point per distinct score, from the highest to the lowest."""

    # (points,) detections of at least this score count: those that share a score come and go
    # together.
    threshold: Curve
    # precision, recall, f1: (points,) there.
    precision: Curve
    recall: Curve
    f1: Curve
    support: int  # objects to be found
    best: int | None  # index of the largest F1, the highest score of several; None without a point


def curves(matches: Matches, label: int | None = None) -> Curves:
    """The curves of one class, or over the summed boxes of all (micro)."""
    counted = matches.outcome != Outcome.IGNORED
    support = int(matches.support.sum() if label is None else matches.support[label])
    if label is not None:
        counted &= matches.labels == label
    order = np.argsort(-matches.scores[counted], kind="stable")
    scores = matches.scores[counted][order]
    tp = np.cumsum(matches.outcome[counted][order] == Outcome.TRUE_POSITIVE)
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], len(scores) > 0))
    tp, found = tp[last], last + 1
    f1 = 2 * tp / (found + support)
    recall = tp / support if support else np.full(len(tp), np.nan)
    best = int(np.argmax(f1)) if len(f1) and support else None
    return Curves(scores[last], tp / found, recall, f1, support, best)
