"""Data set and check read a VOC folder alike, whatever its XML holds."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ablate_kit.models.labels.truth import ground_truth
from detector.data.checks.check_voc import VocSource
from detector.data.checks.dataset_check import examine
from detector.data.formats.voc import Voc
from detector.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voc")
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets/Main/train.txt").write_text("a\nb b\n")
    for name in ("a", "b b"):
        Image.new("RGB", (40, 30)).save(folder / "JPEGImages" / f"{name}.png")
    return folder


TEXTS = st.sampled_from(["0", "1", "true", "", " 1 ", "2", "-5", "7.5", "nan", "inf", "1e2",
                         "1e200", "40", "30", "40.0", "x", "dog", "dgo", "bolt"])  # fmt: skip
FIELDS = ("name", "difficult", "xmin", "ymin", "xmax", "ymax", "width", "height")


def xml(fields: dict[str, str]) -> str:
    given = {"name": "dog", "difficult": "0", "xmin": "2", "ymin": "2", "xmax": "30", "ymax": "20",
             "width": "40", "height": "30"} | fields  # fmt: skip
    corners = "".join(f"<{name}>{given[name]}</{name}>" for name in FIELDS[2:6])
    size = "".join(f"<{name}>{given[name]}</{name}>" for name in FIELDS[6:])
    return (
        f"<annotation><size>{size}</size><object><name>{given['name']}</name>"
        f"<difficult>{given['difficult']}</difficult><bndbox>{corners}</bndbox></object></annotation>"
    )


@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    edits=st.tuples(*[st.dictionaries(st.sampled_from(FIELDS), TEXTS, max_size=2)] * 2),
    difficult=st.sampled_from(["ignore", "keep", "drop"]),
)
def test_the_check_sees_what_the_data_set_sees(
    edits: tuple[dict[str, str], dict[str, str]], difficult: str, root: Path
) -> None:
    for name, fields in zip(("a", "b b"), edits, strict=True):
        (root / "Annotations" / f"{name}.xml").write_text(xml(fields))
    report = examine(VocSource(root, "train", difficult), None, lambda: None)
    messages = [one.message for one in report.problems]
    dataset = Voc(root, "train", difficult=difficult)
    assert tuple(report.balance) == dataset.classes
    try:
        truth = ground_truth(dataset)
    except UserError as error:
        truth, words = None, str(error)
    if truth is None:
        assert words in messages
        assert "\n" not in words
        return
    assert not {"malformed annotation", "unknown class"} & set(report.counts())
    assert (report.objects, report.ignored) == (len(truth), truth.ignore.sum())
    counts = np.bincount(truth.labels, minlength=len(truth.classes))
    assert [objects for objects, _ in report.balance.values()] == counts.tolist()
