"""What a sweep keeps of the unmodified model saves a later one its passes, and changes no bit."""

import errno
import fcntl
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.kinds.heads import heads_each
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.sweeps.execution import certificate, unmodified
from ablate_kit.sweeps.execution.certificate import Certificate
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.execution.identical import identical
from ablate_kit.sweeps.execution.recording_cache import RecordingCache
from ablate_kit.sweeps.variants.variant import Variant
from detector.data.shapes import Shapes

from .toy_adapter import Toy

NOT_USED = "recordings of earlier sweeps are not used: the model does not give what it gave then"


class Counting(nn.Linear):
    calls = 0
    factor = 1.0

    def forward(self, x: Tensor) -> Tensor:
        type(self).calls += 1
        return super().forward(x) * self.factor


class Late(Counting):
    calls = 0


class Model(nn.Module):
    """A costly part, and a cheap one that sweeps are about."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(Counting(6, 6), nn.Tanh(), Counting(6, 6))
        self.last = nn.Sequential(Late(6, 6), nn.Tanh(), Late(6, 3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        # Columns lie in memory one after the other, and have to when they come back.
        return {"y": self.last(self.backbone(x).mT.contiguous().mT)}


class Deep(Model):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Sequential(Late(6, 6), nn.Tanh(), Late(6, 6), nn.Tanh(), Late(6, 3))


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Counting(6, 6)
        self.left = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x)
        self.left = x.mean()
        return x


class Remembering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = Part()
        self.last = Late(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.part(x)) + self.part.left


class Sized(Part):
    def forward(self, x: Tensor) -> Tensor:
        self.left = torch.tensor(float(x.shape[2]))
        return self.inner(x)


def remembering_sizes() -> nn.Module:
    made = Remembering()
    made.part = Sized()
    return made


def cut(*tensors: str) -> Variant:
    return Variant.of(Ablation("-".join(tensors), "test", tuple(Edit(one) for one in tensors)))


def batches(count: int = 3) -> list[Tensor]:
    draw = torch.Generator().manual_seed(3)
    return [torch.randn(1, 2, 4, 6, generator=draw) for _ in range(count)]


def model(kind: Callable[[], nn.Module] = Model) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind()


def swept(
    module: nn.Module,
    variants: Sequence[Variant],
    cache: RecordingCache | None,
    images: Sequence[Tensor] = (),
    **options: Any,
) -> tuple[list[Any], list[str]]:
    toy = Toy(module)
    with VariantExecutor(toy, cache=cache, **options) as executor:
        rows = [executor.run([toy.prepare(one)], variants) for one in images or batches()]
    return rows, executor.notes


def notes_of(
    module: nn.Module,
    variants: Sequence[Variant],
    cache: RecordingCache,
    images: Sequence[Tensor] = (),
) -> list[str]:
    """Of a sweep that finds the same as one without recordings."""
    found, notes = swept(module, variants, cache, images)
    assert identical(found, swept(module, variants, None, images, replay=False)[0])
    return notes


@pytest.fixture
def images(tmp_path: Path) -> list[Tensor]:
    """Those of an earlier sweep, which left its recordings in ``tmp_path``."""
    made = batches(4)
    swept(model(), [cut("last.0.weight")], RecordingCache(tmp_path), made)
    return made


def test_a_second_sweep_runs_the_early_part_for_its_checks_alone(tmp_path: Path) -> None:
    images = batches(8)
    swept(model(), [cut("last.0.weight")], RecordingCache(tmp_path), images)
    Counting.calls = 0
    cache = RecordingCache(tmp_path)
    found, notes = swept(model(), [cut("last.2.weight"), cut("last.2.bias")], cache, images)
    # One pass, of a variant: of two layers.
    assert Counting.calls == 2
    assert notes == []
    plain, _ = swept(model(), [cut("last.2.weight"), cut("last.2.bias")], None, images)
    assert identical(found, plain)


def test_what_a_later_sweep_needs_of_earlier_parts_is_added(tmp_path: Path) -> None:
    variants = [cut("last.2.bias"), cut("backbone.2.bias"), cut("backbone.2.bias", "last.0.bias")]
    swept(model(), variants[:1], RecordingCache(tmp_path))
    found, notes = swept(model(), variants, RecordingCache(tmp_path))
    assert notes == []
    assert identical(found, swept(model(), variants, None)[0])
    Counting.calls = Late.calls = 0
    again, _ = swept(model(), variants, RecordingCache(tmp_path))
    assert identical(again, found)
    # On top of passes to check: nothing of the first layer.
    counted = Counting.calls
    swept(model(), variants, None)
    assert counted < Counting.calls - counted


def test_other_weights_are_as_good_up_to_the_first_that_differs(tmp_path: Path) -> None:
    swept(model(), [cut("last.2.bias")], RecordingCache(tmp_path))
    trained = model()
    with torch.no_grad():
        trained.get_parameter("last.0.bias").add_(1.0)
    images = batches(8)
    swept(model(), [cut("last.0.weight")], RecordingCache(tmp_path), images)
    Counting.calls = 0
    found, notes = swept(trained, [cut("last.2.bias")], RecordingCache(tmp_path), images)
    # Nothing was certified of these weights: two passes to plan, one of other images, one variant.
    assert Counting.calls == 4 * 2
    assert notes == []
    assert identical(found, swept(trained, [cut("last.2.bias")], None, images)[0])
    with torch.no_grad():
        trained.get_parameter("backbone.0.bias").add_(1.0)
    assert notes_of(trained, [cut("last.2.bias")], RecordingCache(tmp_path), images) == []


def test_other_images_and_other_code_are_other_recordings(tmp_path: Path) -> None:
    variants = [cut("last.2.bias")]
    swept(model(), variants, RecordingCache(tmp_path))
    others = [one + 1e-6 for one in batches()]
    assert notes_of(model(), variants, RecordingCache(tmp_path), others) == []
    assert len(RecordingCache(tmp_path).entries()) == 6
    with_relu = model()
    with_relu.last[1] = nn.ReLU()
    assert notes_of(with_relu, variants, RecordingCache(tmp_path)) == []
    assert len(RecordingCache(tmp_path).entries()) == 9


def test_what_a_recording_cannot_hold_is_found_out(tmp_path: Path) -> None:
    """A part that leaves something on itself: what is replayed leaves nothing."""
    variants = [cut("last.bias")]
    swept(model(Remembering), variants, RecordingCache(tmp_path))
    assert notes_of(model(Remembering), variants, RecordingCache(tmp_path)) == [NOT_USED]


def test_another_model_is_found_out_where_the_cut_hides_it(
    images: list[Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that its code reads somewhere, and a cut that gives the same whatever is before."""
    assert full_passes(tmp_path, images, "last.2.weight") == 1
    monkeypatch.setattr(Counting, "factor", 3.0)
    monkeypatch.setattr(Late, "factor", 1.0)
    _, notes = swept(model(), [cut("last.2.weight")], RecordingCache(tmp_path), images)
    assert notes == [NOT_USED]


def test_a_size_that_is_left_behind_is_found_out_where_sizes_change(tmp_path: Path) -> None:
    """Among images of one size a part that leaves it on itself is as good as any."""
    tall = [torch.cat([one, one], dim=2) for one in batches()]
    variants = [cut("last.bias")]
    for images in (batches(), tall):
        for _ in range(2):
            _, notes = swept(model(remembering_sizes), variants, RecordingCache(tmp_path), images)
            assert notes == []
    both = [*batches(), *tall]
    cache = RecordingCache(tmp_path)
    assert notes_of(model(remembering_sizes), variants, cache, both) == [NOT_USED]


def test_that_sizes_leave_nothing_is_found_out_once(tmp_path: Path) -> None:
    tall = [torch.cat([one, one], dim=2) for one in batches()]
    both = [one for pair in zip(batches(), tall, strict=True) for one in pair]
    variants = [cut("last.2.bias")]
    swept(model(), variants, RecordingCache(tmp_path), both)
    assert full_passes(tmp_path, both) == 2  # before any is used, and where sizes change
    assert full_passes(tmp_path, both) == 1


def test_a_pipe_in_place_of_a_certificate_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights.json")
    assert Certificate(tmp_path / "weights.json").held == set()


def test_what_another_process_has_withdrawn_is_not_told_again(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    one, other = Certificate(path), Certificate(path)
    one.add(["wrong"])
    other.add(["right"])
    assert other.held == {"wrong", "right"}
    one.withdraw()
    other.add(["new"])
    assert Certificate(path).held == {"new"}


def test_who_is_stopped_while_writing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate, "WAITS", 2)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        Certificate(tmp_path / "weights.json").add(["set"])
    finally:
        os.close(fd)
    assert Certificate(tmp_path / "weights.json").held == {"set"}


def certificates(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.json"))


def full_passes(folder: Path, images: Sequence[Tensor], *tensors: str) -> int:
    """Of a later sweep, which finds the same as one without recordings."""
    variants = [cut(*tensors)] if tensors else [cut("last.2.weight"), cut("last.2.bias")]
    plain, _ = swept(model(), variants, None, images)
    Counting.calls = 0
    found, notes = swept(model(), variants, RecordingCache(folder), images)
    counted = Counting.calls // 2
    assert notes == []
    assert identical(found, plain)
    return counted


@pytest.mark.parametrize(
    "damage",
    [
        lambda told: b"",
        lambda told: told[:-20],
        lambda told: told.replace(b'"held": ["', b'"held": ["0'),
        lambda told: told.replace(b'"held": [', b'"held": ["' + b"0" * 32 + b'", '),
        lambda told: b"[" * 100_000,
        lambda told: b'{"held": {}, "digest": 0, "about": []}',
        lambda told: b"\x80\x04N.",
        lambda told: b" " * 200_000 + told,
    ],
)
def test_a_damaged_certificate_tells_nothing_and_is_made_anew(
    images: list[Tensor], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    (path,) = certificates(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert full_passes(tmp_path, images) == 4
    assert full_passes(tmp_path, images) == 1


def test_a_certificate_counts_for_its_model_and_environment_alone(
    images: list[Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = certificates(tmp_path)
    told = path.read_bytes()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    swept(model(), [cut("last.0.weight")], RecordingCache(tmp_path), images[:1])
    (other,) = {one.path.parent for one in RecordingCache(tmp_path).entries()} - {path.parent}
    (other / path.name).write_bytes(told)  # that of the same weights, with other threads
    assert full_passes(tmp_path, images[:1]) == 4
    assert json.loads((other / path.name).read_text())["about"] == [other.name, path.name]


def test_what_was_checked_of_one_place_does_not_count_for_an_earlier_one(tmp_path: Path) -> None:
    images = batches(4)
    swept(model(), [cut("last.2.weight")], RecordingCache(tmp_path), images)
    swept(model(), [cut("last.2.bias")], RecordingCache(tmp_path), images)
    # A variant of the backbone replays a part of it alone, which nobody has looked at.
    assert full_passes(tmp_path, images, "backbone.2.bias") > 1


def test_a_later_sweep_may_begin_wherever_a_kept_call_began(tmp_path: Path) -> None:
    images, variants = batches(4), [cut("last.2.bias")]
    swept(model(Deep), [cut("last.4.bias")], RecordingCache(tmp_path), images)
    Counting.calls = 0
    found, notes = swept(model(Deep), variants, RecordingCache(tmp_path), images)
    assert (Counting.calls, notes) == (2, [])
    assert identical(found, swept(model(Deep), variants, None, images)[0])


@pytest.mark.parametrize(("beside", "all_there"), [(9.0, True), (0.0, False)])
def test_what_later_parts_need_is_kept_where_there_is_room(
    beside: float, all_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unmodified, "BESIDE", beside)
    images, cache = batches(4), RecordingCache(tmp_path)

    def recorded() -> set[bytes]:
        return {one.path.read_bytes() for one in RecordingCache(tmp_path).entries()}

    swept(model(Deep), [cut("last.0.weight")], RecordingCache(tmp_path), images)
    before = recorded()
    assert notes_of(model(Deep), [cut("last.4.bias")], cache, images) == []
    assert (recorded() == before) == all_there


def test_recordings_that_are_wrong_are_found_out_under_a_certificate(
    images: list[Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the one full pass: of what changed here neither code nor weights tell."""
    assert certificates(tmp_path)
    monkeypatch.setattr(Counting, "factor", 2.0)
    cache = RecordingCache(tmp_path)
    assert notes_of(model(), [cut("last.2.bias")], cache, images) == [NOT_USED]
    assert not certificates(tmp_path)


def test_what_a_file_tells_of_a_pass_counts_only_as_it_was_written(
    images: list[Tensor], tmp_path: Path
) -> None:
    """That a tensor is used later than it was would have a variant skip what it changes."""
    for one in RecordingCache(tmp_path).entries():
        told = one.path.read_bytes()
        at = told.index(b"last.2.weight", told.index(b"first_use"))
        at = next(i for i in range(at + 13, at + 40) if chr(told[i]).isdigit())
        one.path.write_bytes(told[:at] + bytes([told[at] ^ 1]) + told[at + 1 :])
    assert full_passes(tmp_path, images) > 1


def test_damaged_recordings_are_made_anew(tmp_path: Path) -> None:
    variants = [cut("last.2.bias")]
    swept(model(), variants, RecordingCache(tmp_path))
    first, second, third = (one.path for one in RecordingCache(tmp_path).entries())
    whole = {path: path.read_bytes() for path in (first, second, third)}
    first.write_bytes(whole[first][:100])
    flipped = bytearray(whole[second])
    flipped[-30] ^= 1
    second.write_bytes(flipped)
    third.write_bytes(b"")
    assert notes_of(model(), variants, RecordingCache(tmp_path)) == []
    assert {path: path.read_bytes() for path in whole} == whole


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be written, touched or removed any more, as where a file system is read only."""

    def refused(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EROFS, "Read-only file system", "cache")

    for owner, name in ((os, "utime"), (Path, "unlink"), (Path, "mkdir"), (Path, "replace")):
        monkeypatch.setattr(owner, name, refused)
    opened = os.open
    monkeypatch.setattr(
        os, "open", lambda *what, **how: (refused if what[1] & os.O_CREAT else opened)(*what, **how)
    )


@pytest.mark.parametrize("damaged", ["", "recording", "certificate", "wrong"])
def test_a_folder_that_cannot_be_written_is_read(
    images: list[Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: Any,
    damaged: str,
) -> None:
    variants = [cut("last.2.bias")]
    if damaged == "recording":
        RecordingCache(tmp_path).entries()[0].path.write_bytes(b"")
    if damaged == "certificate":
        certificates(tmp_path)[0].write_bytes(b"")
    if damaged == "wrong":
        monkeypatch.setattr(Counting, "factor", 2.0)
    plain, _ = swept(model(), variants, None, images)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    request.getfixturevalue("read_only")
    found, notes = swept(model(), variants, RecordingCache(tmp_path), images)
    assert identical(found, plain)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
    assert len(notes) == 1  # whatever is lacking, or wrong: once


def test_a_folder_that_cannot_be_made_is_noted_once(tmp_path: Path, read_only: None) -> None:
    told = "no more is kept for later sweeps: cannot write cache: Read-only file system"
    assert notes_of(model(), [cut("last.2.bias")], RecordingCache(tmp_path / "none")) == [told]


def test_writers_at_once_leave_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "environment" / "weights.json"
    recording = tmp_path / "environment" / "images-weights.safetensors"
    ends = ("a" * 100_000).encode(), ("b" * 100_000).encode()

    def write(number: int) -> None:
        own = Certificate(path)
        for turn in range(10):
            cache = RecordingCache(tmp_path)
            cache.check()
            cache.put(recording, ends[number % 2])
            own.add([f"set {number} {turn}"])
            assert Certificate(path).held >= {f"set {number} {one}" for one in range(turn + 1)}
            assert recording.read_bytes() in ends

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(Certificate(path).held) == 40  # of all writers all
    assert sorted(one.name for one in tmp_path.rglob("*.*")) == [
        "cache.json", recording.name, path.name,
    ]  # fmt: skip


def test_a_folder_in_which_the_first_recording_finds_no_room_is_still_one_of_recordings(
    tmp_path: Path,
) -> None:
    swept(model(), [cut("last.2.bias")], RecordingCache(tmp_path, 10))
    RecordingCache(tmp_path).check()


def test_the_folder_stays_within_its_size_and_the_longest_unused_goes_first(tmp_path: Path) -> None:
    variants = [cut("last.2.bias")]
    swept(model(), variants, RecordingCache(tmp_path))
    old = RecordingCache(tmp_path).entries()
    each = max(one.nbytes for one in old)
    for age, one in enumerate(reversed(old)):
        os.utime(one.path, (1_000_000 - age, 1_000_000 - age))
    others = [one + 1 for one in batches(5)]
    notes = notes_of(model(), variants, RecordingCache(tmp_path, 4 * each), others)
    assert len(RecordingCache(tmp_path).entries()) == 4
    assert not any(one.path.exists() for one in old)
    assert notes == [
        f"{tmp_path} is full: what comes after is not kept for later sweeps; --cache-size takes "
        "more"
    ]


@pytest.mark.parametrize("name", ["hybrid", "detr", "rt_detr_v2"])
def test_detectors_find_the_same_with_recordings_as_without(
    tmp_path: Path, folders: Callable[[str], Path], hybrid: Path, name: str
) -> None:
    with open_checkpoint(hybrid if name == "hybrid" else folders(name)) as checkpoint:
        adapter = open_adapter(checkpoint)
        found = attentions(checkpoint.tensors, checkpoint.config)
    own = [one for one in found if "decoder" in one.prefix and "self_attn" in one.prefix]
    shapes = Shapes(4, seed=3, size=96)
    images = [adapter.prepare(shapes.image(i)) for i in range(4)]
    first, second = ([Variant.of(cut) for cut in heads_each(some)] for some in (own[:1], own[-1:]))
    rows = []
    for variants, folder in ((first, tmp_path), (second, tmp_path), (second, None)):
        cache = RecordingCache(folder) if folder else None
        with VariantExecutor(adapter, cache=cache) as executor:
            rows.append([executor.run(images[i : i + 2], variants) for i in (0, 2)])
        assert executor.notes == []
    for one, other in zip(rows[1], rows[2], strict=True):
        for a, b in zip(one, other, strict=True):
            for x, y in zip(a, b, strict=True):
                assert identical(vars(x), vars(y))
    assert len(RecordingCache(tmp_path).entries()) == 2
