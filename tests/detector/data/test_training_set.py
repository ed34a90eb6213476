"""Training batches depend on the seed, the epoch and the position, and on nothing else."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.data.augmentation.letterbox import GRAY, MEAN_COLOR, letterbox, normalize
from detector.data.dataset import Annotations, Pixels
from detector.data.shapes import Shapes
from detector.data.training_set import Batch, EpochSampler, TrainingSet, collate, loader
from detector.errors import UserError


class OneImage:
    """A data set of one image of 100 x 50 pixels with given boxes."""

    classes = ("a", "b")
    category_ids = (1, 2)

    def __init__(self, boxes: list[list[float]], ignore: list[bool] | None = None) -> None:
        count = len(boxes)
        self._annotations = Annotations(
            image_id=42,
            file_name="42.png",
            width=100,
            height=50,
            boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
            labels=np.arange(count) % 2,
            ignore=np.array(ignore or [False] * count, dtype=np.bool_),
            areas=np.ones(count),
            ids=np.arange(1, count + 1),
        )

    def __len__(self) -> int:
        return 1

    def annotations(self, index: int) -> Annotations:
        return replace(self._annotations)

    def image(self, index: int) -> Pixels:
        return np.random.default_rng(0).integers(0, 256, (50, 100, 3), dtype=np.uint8)


class BrokenImages(OneImage):
    """A data set whose image does not decode."""

    def image(self, index: int) -> Pixels:
        raise UserError("a.png: image does not decode")


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a_images, b_images)
        and all(
            a["image_id"] == b["image_id"]
            and torch.equal(a["boxes"], b["boxes"])
            and torch.equal(a["labels"], b["labels"])
            for a, b in zip(a_targets, b_targets, strict=True)
        )
        for (a_images, a_targets), (b_images, b_targets) in zip(first, second, strict=True)
    )


def test_an_item_is_the_normalized_letterbox_and_its_boxes() -> None:
    data = OneImage([[10, 20, 30, 40], [0, 0, 100, 50]])
    image, target = TrainingSet(data, 64, GRAY, flip=0)[0, 0]
    square, placement = letterbox(data.image(0), 64, GRAY)
    assert torch.equal(image, normalize(square))
    expected = placement.to_input(data.annotations(0).boxes).astype(np.float32)
    assert np.array_equal(target["boxes"].numpy(), expected)
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].tolist() == [0, 1]
    assert target["labels"].dtype == torch.int64
    assert target["image_id"] == 42


def test_a_flip_mirrors_the_image_and_its_boxes() -> None:
    data = OneImage([[10, 20, 30, 40]])
    plain, before = TrainingSet(data, 64, GRAY, flip=0)[0, 0]
    mirrored, after = TrainingSet(data, 64, GRAY, flip=1)[0, 0]
    torch.testing.assert_close(mirrored.flip(2), plain)
    cx, cy, w, h = before["boxes"][0].tolist()
    assert after["boxes"][0].tolist() == pytest.approx([1 - cx, cy, w, h])


def test_objects_to_ignore_are_no_targets() -> None:
    data = OneImage([[10, 20, 30, 40], [0, 0, 100, 50]], ignore=[True, False])
    assert TrainingSet(data, 64, GRAY)[0, 0][1]["labels"].tolist() == [1]


def test_boxes_are_clipped_and_those_thinner_than_an_input_pixel_left_out() -> None:
    # 100 x 50 into 50, 12 rows of padding above: an input pixel is two image pixels.
    data = OneImage(
        [
            [-10, -10, 20, 60],  # clipped to 0..20, 0..50
            [10, 10, 12.5, 40],  # 1.25 input pixels
            [10, 10, 11.5, 40],  # 0.75
            [10, 10, 40, 11],  # 0.5
            [98.5, 10, 140, 40],  # 0.75 of it within the image
            [200, 200, 220, 220],  # beyond the image
        ]
    )
    target = TrainingSet(data, 50, GRAY, flip=0)[0, 0][1]
    assert target["labels"].tolist() == [0, 1]
    np.testing.assert_allclose(target["boxes"][0], [0.1, (12 + 12.5) / 50, 0.2, 0.5], rtol=1e-6)


def test_an_image_without_objects_is_letterboxed_and_flipped_like_any_other() -> None:
    data = OneImage([])
    image, target = TrainingSet(data, 64, MEAN_COLOR, flip=1)[0, 0]
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)
    assert torch.count_nonzero(image[:, :16]) == 0
    plain, _ = TrainingSet(data, 64, MEAN_COLOR, flip=0)[0, 0]
    torch.testing.assert_close(image.flip(2), plain)


def test_an_item_depends_on_seed_epoch_and_index_alone() -> None:
    def flips(seed: int, epoch: int) -> list[bool]:
        items = TrainingSet(shapes, 64, GRAY, seed=seed)
        return [not torch.equal(items[epoch, i][0], plain[0, i][0]) for i in range(24)]

    shapes = Shapes(24, size=64)
    plain = TrainingSet(shapes, 64, GRAY, flip=0)
    assert flips(0, 0) == flips(0, 0)
    assert len({tuple(flips(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 50), st.integers(0, 9), st.integers(0, 9), st.integers(0, 50))
def test_an_epoch_is_every_image_once_and_resumes_anywhere(
    length: int, seed: int, epoch: int, start: int
) -> None:
    start = min(start, length)
    sampler = EpochSampler(length, seed)
    sampler.set_epoch(epoch)
    whole = list(sampler)
    assert sorted(whole) == [(epoch, index) for index in range(length)]
    sampler.set_epoch(epoch, start)
    assert list(sampler) == whole[start:]
    assert len(sampler) == length - start


def test_orders_differ_by_epoch_and_by_seed() -> None:
    orders = set()
    for seed in (0, 1):
        sampler = EpochSampler(30, seed)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            orders.add(tuple(index for _, index in sampler))
    assert len(orders) == 4


CHANGES = {"color": 0.5, "crop": 0.5, "mosaic": 0.5}


@pytest.mark.parametrize("change", CHANGES)
def test_one_more_change_leaves_what_the_others_draw_as_it_was(change: str) -> None:
    """Where a change does nothing to an item, the item is to the bit what it was without it."""
    shapes = Shapes(24, size=64)
    others = {name: value for name, value in CHANGES.items() if name != change}
    without = TrainingSet(shapes, 64, GRAY, **others)
    with_it = TrainingSet(shapes, 64, GRAY, **others, **{change: 1e-12})
    assert all(torch.equal(with_it[0, i][0], without[0, i][0]) for i in range(24))
    strong = TrainingSet(shapes, 64, GRAY, **others, **{change: 1.0})
    assert not all(torch.equal(strong[0, i][0], without[0, i][0]) for i in range(24))


def test_targets_follow_their_objects_through_all_changes() -> None:
    """Every object is a block of one color: its box is found again in the pixels."""

    class Blocks(OneImage):
        def image(self, index: int) -> Pixels:
            image = np.zeros((50, 100, 3), dtype=np.uint8)
            image[10:30, 20:50, 0] = 255
            return image

    data = Blocks([[20, 10, 50, 30]])
    items = TrainingSet(data, 96, (0.0, 0.0, 0.0), crop=0.7, color=0.3, seed=1)
    places = set()
    for epoch in range(40):
        image, target = items[epoch, 0]
        red = image[0] * 0.229 + 0.485
        rows, columns = torch.nonzero(red > red.max() / 2, as_tuple=True)
        cx, cy, w, h = (target["boxes"][0] * 96).tolist()
        shown = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        expected = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
        assert np.abs(np.array(shown, float) - expected).max() <= 1
        places.add(tuple(target["boxes"][0].tolist()))
    assert len(places) > 15


def test_a_mosaic_holds_objects_of_several_images_and_the_id_of_its_own() -> None:
    shapes = Shapes(24, size=64)
    items = TrainingSet(shapes, 64, GRAY, flip=0, mosaic=1.0)
    more = [len(items[0, i][1]["labels"]) > len(shapes.annotations(i)) for i in range(24)]
    assert sum(more) > 16
    assert [items[0, i][1]["image_id"] for i in range(24)] == list(range(24))


def test_a_batch_has_one_size_which_follows_from_seed_epoch_and_batch() -> None:
    sizes = (32, 64, 96)

    def drawn(seed: int, epoch: int, start: int = 0) -> list[int]:
        sampler = EpochSampler(23, seed, sizes=sizes, batch_size=4)
        sampler.set_epoch(epoch, start)
        items = TrainingSet(Shapes(23, size=64), 64, GRAY)
        made = loader(items, sampler, batch_size=4, drop_last=False)
        shapes = [tuple(images.shape[2:]) for images, _ in made]
        assert all(height == width for height, width in shapes)
        return [height for height, _ in shapes]

    whole = drawn(0, 0)
    assert set(whole) == set(sizes)
    assert drawn(0, 0, start=8) == whole[2:]
    assert len({tuple(drawn(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_sizes_leave_the_order_as_it_is() -> None:
    plain, sized = EpochSampler(10, 5), EpochSampler(10, 5, sizes=(32, 64), batch_size=3)
    assert [key[:2] for key in sized] == list(plain)


def test_a_start_beyond_the_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="start 6 is not within the 5 images of an epoch"):
        EpochSampler(5).set_epoch(0, 6)


def test_collate_stacks_images_and_lists_targets() -> None:
    items = TrainingSet(Shapes(3, size=64), 64, GRAY)
    images, targets = collate([items[0, 0], items[0, 1], items[0, 2]])
    assert images.shape == (3, 3, 64, 64)
    assert [target["image_id"] for target in targets] == [0, 1, 2]


@pytest.mark.parametrize("changes", [{}, CHANGES])
def test_batches_are_the_same_for_any_number_of_workers_in_every_epoch(
    changes: dict[str, float],
) -> None:
    def batches(workers: int) -> list[list[Batch]]:
        sizes = (64, 96) if changes else ()
        sampler = EpochSampler(10, seed=3, sizes=sizes, batch_size=4)
        items = TrainingSet(Shapes(10, size=64), 64, GRAY, seed=3, **changes)
        made = loader(items, sampler, batch_size=4, workers=workers)
        epochs = []
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            epochs.append(list(made))
        return epochs

    alone, together = batches(0), batches(2)
    assert [len(epoch) for epoch in alone] == [2, 2]
    assert all(same(*epochs) for epochs in zip(alone, together, strict=True))
    assert not same(alone[0], alone[1])


def test_an_interrupted_epoch_continues_with_the_batches_that_were_left() -> None:
    sampler = EpochSampler(10, seed=3)
    made = loader(TrainingSet(Shapes(10, size=64), 64, GRAY), sampler, 4, drop_last=False)
    sampler.set_epoch(5)
    whole = list(made)
    sampler.set_epoch(5, start=4)
    assert len(made) == 2
    assert same(list(made), whole[1:])


def test_the_global_random_state_is_neither_read_nor_changed() -> None:
    def run() -> list[Batch]:
        sampler = EpochSampler(8)
        return list(loader(TrainingSet(Shapes(8, size=64), 64, GRAY), sampler, 4))

    first = run()
    torch.manual_seed(1)
    random.seed(1)
    before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    assert same(run(), first)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert repr(np.random.get_state()) == before[2]  # noqa: NPY002


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_one_clear_line_from_any_worker(workers: int) -> None:
    made = loader(TrainingSet(BrokenImages([]), 64, GRAY), EpochSampler(1), 1, workers=workers)
    with pytest.raises(UserError) as caught:
        list(made)
    assert str(caught.value) == "a.png: image does not decode"
    assert multiprocessing.active_children() == []  # the workers ended with the error


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_do_not_hear_ctrl_c(method: str) -> None:
    # A terminal sends it to them, too: the step under way needs batches that are not there yet.
    made = loader(TrainingSet(Shapes(9, size=64), 64, GRAY), EpochSampler(9), 1, workers=1)
    made.multiprocessing_context = method
    batches = iter(made)
    next(batches)
    (worker,) = multiprocessing.active_children()
    assert worker.pid
    os.kill(worker.pid, signal.SIGINT)
    assert len(list(batches)) == 8


SCRIPT = """
import multiprocessing, os
from pathlib import Path

class Parents:
    def __len__(self):
        return 1

    def __getitem__(self, key):
        return "libtorch" in Path(f"/proc/{os.getppid()}/maps").read_text()

def first(items):
    return items[0]

if __name__ == "__main__":
    from detector.data.training_set import EpochSampler, loader
    multiprocessing.set_start_method("forkserver")
    print(list(loader(Parents(), EpochSampler(1), 1, workers=1, collate=first)))
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_workers_of_a_forkserver_do_not_import_torch_each(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[True]\n", "")


def test_an_epoch_without_a_single_batch_is_refused() -> None:
    items = TrainingSet(Shapes(3, size=64), 64, GRAY)
    with pytest.raises(UserError, match="3 training images do not fill a batch of 4; give a sm"):
        loader(items, EpochSampler(3), 4)
    assert len(loader(items, EpochSampler(3), 4, drop_last=False)) == 1
