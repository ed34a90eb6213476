"""Images that belong together count as one: told from file names, drawn together."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ablate_kit.errors import UserError
from ablate_kit.metrics import clusters
from ablate_kit.metrics.clusters import clusters_of
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.pattern_groups import groups_found
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap
from ablate_kit.metrics.uncertainty.chance import paired_test
from ablate_kit.metrics.uncertainty.dependent_images import freedom
from tests.ablate_kit.made_up import truth_of

FILES = ["videos/a_001.jpg", "videos/a_002.jpg", "videos/b_001.jpg", "videos/c.d_7.jpg"]


def study(images: int, repeats: int, seed: int = 0) -> tuple[GroundTruth, Detections, Detections]:
    """Images that are each there ``repeats`` times, and two detectors; names of the originals."""
    rng = np.random.default_rng(seed)
    n = 4 * images
    corner = rng.uniform(0, 200, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 60, (n, 2))], axis=1)
    labels = rng.integers(0, 2, n)
    of = np.repeat(np.arange(images), 4)

    def again(column: np.ndarray) -> np.ndarray:
        return np.concatenate([column] * repeats)

    place = np.concatenate([of + images * i for i in range(repeats)])
    truth = truth_of(
        place, again(boxes), again(labels), images=images * repeats, classes="ab", side=300,
        clusters=np.tile(np.arange(images), repeats),
    )  # fmt: skip
    found = []
    for noise in (3.0, 6.0):
        moved = boxes + rng.normal(0, noise, boxes.shape) * rng.uniform(0, 3, images)[of][:, None]
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        scores = rng.beta(3, 2, n)
        found.append(Detections(place, again(moved), again(scores), again(labels)))
    return truth, found[0], found[1]


def errors(truth: GroundTruth, one: Detections, other: Detections) -> dict[str, float]:
    bootstrap = Bootstrap(truth, 1000, 1)
    first, second = (bootstrap.samples(found, 0.4) for found in (one, other))
    found = {}
    for key in KEYS:
        test = paired_test(second.overall[key] - first.overall[key])
        assert test is not None
        found[key] = test.error
    return found


@pytest.mark.parametrize("repeats", [2, 4])
def test_repeated_images_do_not_make_a_change_surer(repeats: int) -> None:
    growth = []
    for seed in range(6):
        truth, one, other = study(40, repeats, seed)
        together = errors(truth, one, other)
        apart = errors(replace(truth, clusters=None), one, other)
        once = errors(*study(40, 1, seed))
        growth.append([together[key] / apart[key] for key in KEYS])
        for key in KEYS:  # as sure as the images are once, but for recall's hundred levels
            assert together[key] == pytest.approx(once[key], rel=0.1)
    assert np.mean(growth, axis=0) == pytest.approx(np.full(len(KEYS), np.sqrt(repeats)), rel=0.05)


def test_clusters_are_what_is_counted() -> None:
    truth, one, other = study(12, 3)
    counts = evaluate(truth, one).counts
    told = [counts[name] for name in ("clusters", "largest_cluster", "equal_clusters")]
    assert told == [12, 3, 12]
    groups = np.tile(np.minimum(np.arange(12), 3), 3)  # three of 3 images each, and one of 27
    counts = evaluate(replace(truth, clusters=groups), one).counts
    told = [counts[name] for name in ("clusters", "largest_cluster", "equal_clusters")]
    assert told == [4, 27, 2]
    assert "clusters" not in evaluate(replace(truth, clusters=None), one).counts
    samples = Bootstrap(truth, 10).samples(other, 0.4)
    assert samples.overall["AP"].images == 12
    assert len(samples.overall["AP"].left_out) == 12
    assert {sampled.images for sampled in samples.ap_per_class} <= set(range(10, 13))


def test_clusters_of_one_image_each_change_nothing() -> None:
    truth, one, _ = study(15, 1)
    alone = Bootstrap(replace(truth, clusters=None), 20).samples(one, 0.4)
    named = Bootstrap(truth, 20).samples(one, 0.4)
    for key in KEYS:
        assert (named.overall[key].resampled == alone.overall[key].resampled).all()


def test_degrees_of_freedom_are_those_of_the_variance_over_unequal_clusters() -> None:
    """By the quadratic form itself: squared distances to the weighted mean, by squared weights."""
    for sizes in ([3, 3, 3], [9, 1], [100, 1, 1, 1], [3, 4, 5, 100, 7], [580] + [20] * 29):
        share = np.array(sizes) / sum(sizes)
        apart = np.eye(len(sizes)) - share  # what each says, less the mean of all
        form = apart.T @ np.diag(share**2) @ apart
        expected = np.trace(form) ** 2 / np.trace(form @ form)
        assert freedom(np.array(sizes)) == pytest.approx(expected)
    assert freedom(np.full(30, 7)) == 29


def test_a_cluster_that_holds_most_images_leaves_few_degrees_of_freedom() -> None:
    truth, one, other = study(12, 3)
    groups = np.tile(np.minimum(np.arange(12), 3), 3)  # three of 3 images each, and one of 27
    bootstrap = Bootstrap(replace(truth, clusters=groups), 50)
    first, second = (bootstrap.samples(found, 0.4) for found in (one, other))
    pairs = [(first.overall[key], second.overall[key]) for key in KEYS]
    pairs += zip(first.ap_per_class, second.ap_per_class, strict=True)
    for before, after in pairs:
        test = paired_test(after - before)
        assert test is not None
        assert test.freedom < 2


def test_a_class_counts_the_images_of_a_cluster_that_show_it() -> None:
    """Clusters of 4, 2 and 2 images; the second class is on 4 of the first, 1 of the second."""
    image = np.repeat(np.arange(8), [2] * 5 + [1] * 3)
    boxes = np.tile([[10.0, 10.0, 40.0, 40.0]], (13, 1))
    labels = np.array([0, 1] * 5 + [0] * 3)
    groups = np.repeat([0, 1, 2], [4, 2, 2])
    truth = truth_of(image, boxes, labels, images=8, classes="ab", side=300, clusters=groups)
    found = Detections(image, boxes, np.full(13, 0.9), labels)
    samples = Bootstrap(truth, 10).samples(found, 0.4)
    assert [one.images for one in samples.ap_per_class] == [3, 2]
    both = [freedom(np.array(sizes)) for sizes in ([4, 2, 2], [4, 1])]
    assert [one.freedom for one in samples.ap_per_class] == pytest.approx(both)
    assert samples.overall["AP"].freedom == pytest.approx(both[0])


def test_a_ground_truth_keeps_its_clusters() -> None:
    truth, *_ = study(5, 2)
    again = GroundTruth.from_coco(truth.to_coco())
    assert again.clusters is not None
    assert again.clusters.tolist() == [0, 1, 2, 3, 4] * 2
    assert GroundTruth.from_coco(replace(truth, clusters=None).to_coco()).clusters is None


def test_a_pattern_names_clusters_by_its_group() -> None:
    assert clusters_of(r"(.*)_\d+\.jpg", FILES).tolist() == [0, 0, 1, 2]
    assert clusters_of(r"(\w)(?:\.\w)?_0*(\d)", FILES).tolist() == [0, 1, 2, 3]  # both groups


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(", r'cannot read the clusters "\(": no regular expression'),
        ("a{99999999999999}", "no regular expression .the repetition number is too large"),
        ("(" * 3000 + ")" * 3000, "no regular expression .maximum recursion depth"),
        (r".*_\d+", "has no group to name a cluster by"),
        (r"([ab])_\d+", 'is not found in 1 of 4 file names, such as "videos/c.d_7.jpg"'),
    ],
)
def test_a_pattern_that_does_not_serve_is_refused(pattern: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        clusters_of(pattern, FILES)


def test_a_pattern_that_takes_ages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "groups_found", partial(groups_found, seconds=0.5))
    with pytest.raises(UserError, match=r"takes more than .* for the 1 file names"):
        clusters_of(r"^(.|a|[a-z])+$", ["a" * 200 + "/" * 3 + "\n\n"])


def test_names_of_any_text_have_clusters() -> None:
    assert clusters_of(r"(.)$", ["\udcff", "é", "a\0é", "\udcff"]).tolist() == [1, 0, 0, 1]


def test_a_file_names_clusters(tmp_path: Path) -> None:
    path = tmp_path / "clusters.csv"
    path.write_text("file,cluster\na_001.jpg,x\nvideos/a_002.jpg,x\nb_001,y\nc.d_7.jpg,z\nno,z\n")
    assert clusters_of(str(path), FILES).tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a_001.jpg,x\na_002.jpg\n", r"clusters\.csv:2: 1 columns; expected two"),
        ("a_001.jpg,x\nvideos/a_001.jpg,y\n", r':2: "videos/a_001.jpg" is in two clusters'),
        (
            "a_001.jpg,x\na_02.jpg,x\nb_001,y\n",
            r'no cluster for 2 of 4 images, such as "videos/a_0',
        ),
    ],
)
def test_a_file_that_does_not_serve_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "clusters.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=told):
        clusters_of(str(path), FILES)
    with pytest.raises(UserError, match="no file of clusters"):
        clusters_of(str(tmp_path / "other.csv"), FILES)
