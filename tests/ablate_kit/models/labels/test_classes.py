"""The names of classes that agree in part, or only by hand."""

from pathlib import Path

import numpy as np
import pytest

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.models.labels.classes import match_classes, read_class_names, unmatched_classes
from ablate_kit.models.labels.truth import crowded
from detector.data.dataset import Annotations, Pixels
from tests.ablate_kit.made_up import truth_of


class _Data:
    """A data set of one image, with an object of each class, or of ``labels``."""

    def __init__(self, classes: list[str], labels: list[int] | None = None) -> None:
        self.classes = tuple(classes)
        self.category_ids = tuple(range(len(classes)))
        found = np.arange(len(classes)) if labels is None else np.array(labels, dtype=np.int64)
        self.ignore = np.zeros(len(found), dtype=np.bool_)
        self.labels = found

    def __len__(self) -> int:
        return 1

    def annotations(self, index: int) -> Annotations:
        n = len(self.labels)
        return Annotations(
            image_id=1, file_name="a.jpg", width=9, height=9, boxes=np.zeros((n, 4)),
            labels=self.labels, ignore=self.ignore, areas=np.ones(n), ids=np.arange(n) + 1,
        )  # fmt: skip

    def image(self, index: int) -> Pixels:
        raise NotImplementedError

    def stored(self, index: int) -> bytes:
        raise NotImplementedError


def unmatched(model: list[str], classes: list[str], labels: list[int] | None = None) -> list[str]:
    return unmatched_classes(model, _Data(classes, labels))


def test_a_class_without_objects_is_not_missed() -> None:
    project = ["hardware", "bolt", "nut"]  # exports begin with a category of the whole project
    assert unmatched(["bolt", "nut"], project, [1, 2, 1]) == []
    (note,) = unmatched(["bolt", "nut"], project)
    assert '"hardware"' in note
    crowd = _Data(project)
    crowd.ignore = np.array([True, False, False])
    assert unmatched_classes(["bolt", "nut"], crowd) == []


def test_a_model_that_has_both_names_of_a_class_means_two() -> None:
    assert match_classes(["sofa", "tv", "couch"], ["couch", "tvmonitor"]).tolist() == [-1, 1, 0]
    assert match_classes(["couch", "sofa"], ["cat", "sofa"]).tolist() == [-1, 1]


def test_what_has_no_counterpart_is_named_with_the_nearest() -> None:
    assert unmatched(["cat", "dog", "tv"], ["dog", "tvmonitor"]) == []
    (note,) = unmatched(["Bolt", "nut", "hex_nut"], ["bolt", "nut", "hex nut", "x"])
    assert note.startswith(
        "3 of the data set's 4 classes are not among the model's, so that all their objects count "
        'as missed: "bolt" (did you mean the model\'s "Bolt"?), "hex nut" (did you mean the '
        'model\'s "hex_nut"?), "x"; --class-names FILE'
    )
    (note,) = unmatched(["a"], ["a", *(f"no {i}" for i in range(30))])
    assert '"no 9", ... 30 in all' in note
    with pytest.raises(UserError, match="no name in common; --class-names FILE"):
        unmatched(["LABEL_0", "LABEL_1"], ["bolt", "nut"])


def test_a_name_without_end_does_not_fill_the_note() -> None:
    (note,) = unmatched(["a"], ["a", "x" * 5000])
    assert "1 of the data set's 2 classes is not among the model's" in note
    assert "xxx...xxx" in note
    assert len(note) < 300
    with pytest.raises(UserError) as told:
        unmatched(["y" * 5000], ["x" * 5000])
    assert len(str(told.value)) < 500


def test_names_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("hex nut\r\n\r\nN/A\n N/A\nbolt \n", encoding="utf-8-sig")
    assert read_class_names(path).names == ("hex nut", "N/A", "N/A", "bolt")
    path.write_text("bolt\nnut\nbolt\n")
    with pytest.raises(UserError, match=r'names\.txt: "bolt" is in it twice'):
        read_class_names(path)
    path.write_text("\n")
    with pytest.raises(UserError, match="no names; expected one to a line"):
        read_class_names(path)


def test_names_of_categories(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text('{"categories": [{"id": 3, "name": "nut"}, {"id": 1, "name": " bolt"}]}')
    found = read_class_names(path)
    assert found.of(["0", "1", "2", "3", "4"], "x") == ("N/A", "bolt", "N/A", "nut", "N/A")
    with pytest.raises(UserError, match="4 class names for x, which has 2 classes"):
        found.of(["0", "1"], "x")
    for text, message in {
        '{"categories": [{"id": -1, "name": "nut"}]}': "no category with an id and a name",
        '{"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}': '"a" is in it twice',
        '{"categories"': "not JSON",
        '{"images": []}': 'no list "categories" of ids and names',
    }.items():
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_class_names(path)


def test_outputs_that_count_the_categories_of_a_file(tmp_path: Path, told: list[str]) -> None:
    """Most training code numbers outputs so, whatever holes the ids have."""
    path = tmp_path / "train.json"
    path.write_text('{"categories": [{"id": 1, "name": "bolt"}, {"id": 7, "name": "nut"}]}')
    assert read_class_names(path).of(["LABEL_0", "LABEL_1"], "x") == ("bolt", "nut")
    assert "outputs of x are taken for the 2 categories in their order (bolt, nut)" in told[0]
    with pytest.raises(UserError, match="8 class names for x, which has 3 classes"):
        read_class_names(path).of(["0", "1", "2"], "x")
    path.write_text('{"categories": [{"id": 7, "name": "nut"}, {"id": 1, "name": "bolt"}]}')
    with pytest.raises(UserError, match="8 class names for x"):  # of which order nobody knows
        read_class_names(path).of(["0", "1"], "x")


def test_images_with_more_objects_than_are_kept_are_said() -> None:
    def truth(count: int) -> GroundTruth:
        return truth_of(np.zeros(count), np.tile([0, 0, 1, 1], (count, 1)), np.zeros(count))

    assert crowded(truth(100)) == []
    assert crowded(truth(0)) == []
    (note,) = crowded(truth(101))
    assert note.startswith("1 image has more than 100 objects, and the 100 best detections")
