"""Prepared images that a sweep keeps: the same bits, and never those of something else."""

import os
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ablate_kit.models.adapter import Prepared
from ablate_kit.models.frameworks.hugging_face.transformers_adapter import TransformersAdapter
from ablate_kit.models.inference.batches import prepared_batches
from ablate_kit.sweeps.execution import prepared_images
from ablate_kit.sweeps.execution.prepared_images import PreparedImages
from ablate_kit.sweeps.execution.recording_cache import RecordingCache
from detector.data.dataset import Pixels
from detector.data.formats.image_folder import ImageFolder
from tests.ablate_kit.small_sweeps import adapter_of

from .toy_adapter import Toy

SIZES = [2, 1]  # of batches


class Preparing(Toy):
    """Scales images to floats, channels last in memory."""

    def __init__(self, scale: float = 1 / 255) -> None:
        super().__init__(nn.Identity())
        self.scale = scale
        self.done = 0

    def prepare(self, image: Pixels) -> Prepared:
        self.done += 1
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() * self.scale
        mask = torch.ones(1, *image.shape[:2], dtype=torch.int64)
        return Prepared({"pixels": pixels, "mask": mask}, image.shape[:2])

    def preparation(self) -> Mapping[str, Any] | None:
        return {"scale": self.scale}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images whose files have one size, whatever is in them."""
    place = tmp_path / "images"
    place.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (6, 8, 3))
        Image.fromarray(noise.astype(np.uint8)).save(place / f"{number}.bmp")
    return place


def prepared(adapter: Preparing, folder: Path, cache: Path, capacity: int = 1 << 20) -> list[Any]:
    """Of all images, what the model gets."""
    dataset = ImageFolder(folder, "ignore")
    kept = PreparedImages.of(RecordingCache(cache, capacity), adapter, dataset)
    assert kept is not None
    return [one for batch in prepared_batches(adapter, dataset, SIZES, kept=kept) for one in batch]


def bits(images: list[Prepared]) -> list[Any]:
    return [
        (
            one.origin,
            {
                name: (tensor.stride(), tensor.dtype, tensor.numpy().tobytes())
                for name, tensor in one.inputs.items()
            },
        )
        for one in images
    ]


def test_a_second_time_nothing_is_prepared_and_every_bit_is_the_same(
    folder: Path, tmp_path: Path
) -> None:
    first, second = Preparing(), Preparing()
    before = prepared(first, folder, tmp_path / "cache")
    after = prepared(second, folder, tmp_path / "cache")
    assert (first.done, second.done) == (3, 0)
    assert bits(after) == bits(before)
    assert not before[0].inputs["pixels"].is_contiguous()
    assert len(RecordingCache(tmp_path / "cache").entries()) == len(SIZES)


def changed_end(path: Path, last: int) -> None:
    """In one step, as other threads may be reading the file."""
    new = path.with_suffix(".new")
    new.write_bytes(path.read_bytes()[:-1] + bytes([last]))
    new.replace(path)


def other_pixels(folder: Path, _: pytest.MonkeyPatch) -> Preparing:
    """In a file of the same name, size and date."""
    path = folder / "2.bmp"
    then = path.stat()
    changed_end(path, path.read_bytes()[-1] ^ 1)
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert path.stat().st_size == then.st_size
    return Preparing()


def another_order(folder: Path, _: pytest.MonkeyPatch) -> Preparing:
    (folder / "2.bmp").rename(folder / "0.tmp")
    (folder / "1.bmp").rename(folder / "2.bmp")
    (folder / "0.tmp").rename(folder / "1.bmp")
    return Preparing()


def another_setting(_: Path, __: pytest.MonkeyPatch) -> Preparing:
    return Preparing(1 / 127)


def another_pillow(_: Path, monkeypatch: pytest.MonkeyPatch) -> Preparing:
    monkeypatch.setattr(PIL, "__version__", "1.0")
    prepared_images._environment.cache_clear()
    return Preparing()


def another_decoder(_: Path, monkeypatch: pytest.MonkeyPatch) -> Preparing:
    monkeypatch.setattr(prepared_images.features, "version", lambda _: "1.0")
    prepared_images._environment.cache_clear()
    return Preparing()


def other_code(_: Path, monkeypatch: pytest.MonkeyPatch) -> Preparing:
    monkeypatch.setattr(prepared_images, "code_of", lambda: ["other"])
    prepared_images._environment.cache_clear()
    return Preparing()


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        (other_pixels, 1),
        (another_order, 3),
        (another_setting, 3),
        (another_pillow, 3),
        (another_decoder, 3),
        (other_code, 3),
    ],
)
def test_what_has_changed_is_prepared_anew(
    change: Callable[[Path, pytest.MonkeyPatch], Preparing],
    anew: int,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared(Preparing(), folder, tmp_path / "cache")
    with monkeypatch.context() as changes:
        adapter = change(folder, changes)
        found = prepared(adapter, folder, tmp_path / "cache")
    prepared_images._environment.cache_clear()
    assert adapter.done == anew
    assert bits(found) == bits(prepared(Preparing(adapter.scale), folder, tmp_path / "none"))


def test_an_image_that_changes_while_it_is_prepared_is_not_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Preparing):
        calls = count()  # of several threads

        def prepare(self, image: Pixels) -> Prepared:
            if next(self.calls) == 0:  # of the first batch
                other_pixels(folder, monkeypatch)
                changed_end(folder / "0.bmp", 255)
            return super().prepare(image)

    prepared(Slow(), folder, tmp_path / "cache")
    again = Preparing()
    found = prepared(again, folder, tmp_path / "cache")
    assert again.done >= 2
    assert bits(found) == bits(prepared(Preparing(), folder, tmp_path / "none"))


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text"])
def test_damaged_files_are_made_anew(damage: str, folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = bits(prepared(Preparing(), folder, cache))
    for one in RecordingCache(cache).entries():
        data = bytearray(one.path.read_bytes())
        if damage == "flipped":
            data[-1] ^= 1
        one.path.write_bytes(
            {"empty": b"", "cut": data[:-9], "flipped": data, "text": b"no tensors"}[damage]
        )
    second, third = Preparing(), Preparing()
    assert bits(prepared(second, folder, cache)) == before
    assert bits(prepared(third, folder, cache)) == before
    assert (second.done, third.done) == (3, 0)


def test_prepared_images_take_a_part_of_the_folder(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    prepared(Preparing(), folder, cache)
    most = max(one.nbytes for one in RecordingCache(cache).entries())
    RecordingCache(cache).clear()
    prepared(Preparing(), folder, cache, int(1.5 * most / prepared_images.SHARE))
    assert len(RecordingCache(cache).entries()) == 1


def _scaled(kind: str) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (1, 3, 9, 7), generator=draw).float()
    pixels[0, 2] = 7  # one color
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    return {
        "scaled": (pixels / 255 - mean) / 0.229,
        "few values": torch.where(pixels > 250, pixels, 3.0) / 255,
        "no pixels": torch.randn(1, 3, 40, 40, generator=draw),
        "far apart": torch.where(pixels > 99, torch.where(pixels > 200, 1e30, 1e-30), 0.0),
        "tiny": torch.where(pixels > 99, 1e-40, 0.0),
        "negative zero": torch.where(pixels > 9, 0.0, -0.0),
        "infinite": torch.where(pixels > 9, torch.inf, pixels),
        "nan": torch.where(pixels > 9, torch.nan, pixels),
        "whole": pixels.long(),
        "half": pixels.half(),
        "other shape": pixels[0],
        "nothing": pixels[:, :, :0],
    }[kind]


IN_BYTES = ("scaled", "few values")
NOT_IN_BYTES = (
    "no pixels", "far apart", "tiny", "negative zero", "infinite", "nan", "whole", "half",
    "other shape", "nothing",
)  # fmt: skip


@pytest.mark.parametrize("kind", IN_BYTES + NOT_IN_BYTES)
def test_what_fits_in_bytes_comes_back_exactly(kind: str) -> None:
    tensor, in_bytes = _scaled(kind), kind in IN_BYTES
    coded = prepared_images._coded(tensor)
    assert (coded is not None) == in_bytes
    if coded is not None:
        assert coded[0].dtype == torch.uint8
        assert prepared_images._values(*coded).numpy().tobytes() == tensor.numpy().tobytes()


def test_what_cannot_be_stored_is_not_kept(folder: Path, tmp_path: Path) -> None:
    class Odd(Preparing):
        def prepare(self, image: Pixels) -> Prepared:
            return Prepared(super().prepare(image).inputs, {"no": "tuple"})

    prepared(Odd(), folder, tmp_path / "cache")
    assert RecordingCache(tmp_path / "cache").entries() == []
    assert PreparedImages.of(None, Preparing(), ImageFolder(folder, "ignore")) is None
    toy, cache = Toy(nn.Identity()), RecordingCache(tmp_path / "cache")
    assert PreparedImages.of(cache, toy, ImageFolder(folder, "ignore")) is None


def test_adapters_of_transformers_tell_how_they_prepare(folders: Callable[[str], Path]) -> None:
    def opened() -> TransformersAdapter:
        adapter = adapter_of(folders("detr"))
        assert isinstance(adapter, TransformersAdapter)
        return adapter

    class Derived(TransformersAdapter):
        pass

    one, other = opened(), opened()
    assert one.preparation() == other.preparation() != None  # noqa: E711
    other.processor.image_mean = [0.1, 0.2, 0.3]
    assert one.preparation() != other.preparation()
    assert Derived(one.module, one.processor, {}, "cpu").preparation() is None
