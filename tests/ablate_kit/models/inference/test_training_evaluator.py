"""The mAP that a trainer hears of a model, whatever order the validation images' classes have."""

import numpy as np
import pytest

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import HybridAdapter
from ablate_kit.models.inference.training_evaluator import evaluator
from ablate_kit.models.labels.classes import other_classes, unlearned_classes
from detector.data.dataset import Annotations
from detector.data.shapes import Shapes
from detector.zoo import SHAPES_TINY


class Reversed(Shapes):
    """The same images with their classes in another order, as of another file of annotations."""

    classes = ("alien", *reversed(Shapes.classes))
    category_ids = tuple(range(1, 10))

    def annotations(self, index: int) -> Annotations:
        found = super().annotations(index)
        return Annotations(**{**vars(found), "labels": len(Shapes.classes) - found.labels})


def test_classes_are_matched_by_name() -> None:
    with open_checkpoint(SHAPES_TINY) as checkpoint:
        adapter = HybridAdapter.open(checkpoint)
    given, other = Shapes(4, seed=1, split=1), Reversed(4, seed=1, split=1)
    first, again = given.annotations(0).labels, other.annotations(0).labels
    assert [Shapes.classes[i] for i in first] == [Reversed.classes[i] for i in again]
    found = [evaluator(one, adapter.classes, "cpu")(adapter.module) for one in (given, other)]
    assert found[0]["mAP_50_95"] > 0.4
    assert found[1] == pytest.approx(found[0], abs=1e-12)
    assert np.array_equal(first, 8 - again)


def test_classes_that_no_training_image_has_are_told() -> None:
    assert unlearned_classes(("cat", "airplane"), ("aeroplane", "cat")) == []
    (note,) = unlearned_classes(("cat", "dog"), ("dog", "eel", "emu"))
    assert note.startswith("2 of the validation images' 3 classes are not among the training")
    assert note.endswith("eel, emu")
    with pytest.raises(UserError, match=r"validation images \(eel\) .* no name in common"):
        unlearned_classes(("cat",), ("eel",))


def test_first_weights_of_other_classes_are_told() -> None:
    assert other_classes(("cat", "airplane"), ("cat", "aeroplane")) == []
    (note,) = other_classes(("cat", "dog"), ("dog", "cat"))
    assert "of classes in another order (cat, dog; the training images have dog, cat)" in note
    (note,) = other_classes(("cat", "eel"), ("cat", "dog"))
    assert "of classes of other names" in note
