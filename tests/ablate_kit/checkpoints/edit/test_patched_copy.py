"""A changed copy of a checkpoint: the values asked for, and every other byte as it was."""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ablate_kit.checkpoints import CheckpointError, open_archive, open_checkpoint
from ablate_kit.checkpoints.edit.elements import ElementPatch
from ablate_kit.checkpoints.edit.patched_copy import copy_folder_patched, write_patched
from ablate_kit.errors import UserError
from detector.tensor_bytes import bytes_of


def patched(source: Path, *changes: ElementPatch) -> Path:
    target = source.with_name("patched.pth")
    target.unlink(missing_ok=True)
    with open_archive(source) as archive:
        write_patched(archive, changes, target)
    return target


def assert_only_these_bytes_differ(before: Path, after: Path, allowed: set[int]) -> None:
    old = np.frombuffer(before.read_bytes(), np.uint8)
    new = np.frombuffer(after.read_bytes(), np.uint8)
    assert len(old) == len(new)
    assert set(np.flatnonzero(old != new).tolist()) <= allowed


def own_bytes(source: Path, name: str) -> set[int]:
    """File positions of a tensor's elements and of its record's checksums."""
    with open_archive(source) as archive:
        info = archive.tensors[name]
    positions = {check + byte for check in info.storage.checksums for byte in range(4)}
    for index in np.ndindex(info.shape):
        step = sum(i * s for i, s in zip(index, info.stride, strict=True)) * info.itemsize
        positions |= {info.offset + step + byte for byte in range(info.itemsize)}
    return positions


def at(tree: Any, name: str) -> torch.Tensor:
    for key in name.split("."):
        tree = tree[int(key)] if isinstance(tree, list | tuple) else tree[key]
    return tree


EVERY_KIND = [
    "float32", "float64", "bfloat16", "float8_e4m3fn", "integers.int64", "bool", "complex.128",
    "scalar", "one", "transposed", "permuted", "channels_last", "sliced", "column", "parameter",
    "nested.deeper.weight",
]  # fmt: skip


@pytest.mark.parametrize("name", EVERY_KIND)
def test_all_values_of_a_tensor_of_a_torch_file(saved: Path, name: str) -> None:
    old = at(torch.load(saved, weights_only=True), name).detach()
    new = old.reshape(-1)[torch.arange(old.numel()).flip(0)].reshape(old.shape)
    new = new if old.numel() > 1 else torch.tensor(-8.0)
    target = patched(saved, ElementPatch(name, bytes_of(new)))
    assert bytes_of(at(torch.load(target, weights_only=True), name)) == bytes_of(new)
    assert_only_these_bytes_differ(saved, target, own_bytes(saved, name))
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize("name", EVERY_KIND)
def test_one_value_for_all_elements(saved: Path, name: str) -> None:
    with open_archive(saved) as archive:
        zero = bytes(archive.tensors[name].itemsize)
    target = patched(saved, ElementPatch(name, zero))
    assert not at(torch.load(target, weights_only=True), name).to(torch.complex128).any()
    assert_only_these_bytes_differ(saved, target, own_bytes(saved, name))


BOUNDS = st.none() | st.integers(-6, 6)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_any_selection_becomes_what_numpy_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3), "shape")
    order = data.draw(st.permutations(range(len(shape))), "order")
    base = torch.arange(float(np.prod(shape))).reshape(shape).permute(order)
    steps = [slice(data.draw(st.integers(0, 2)), None, data.draw(st.integers(1, 2))) for _ in shape]
    tensor = base[tuple(steps)]
    source = tmp_path_factory.mktemp("p") / "file.pth"
    torch.save({"t": tensor}, source)
    expected = np.array(tensor.numpy(), order="C")
    flat = expected.reshape(-1)

    index: Any
    if data.draw(st.booleans(), "by position") and expected.size:
        index = np.array(data.draw(st.lists(st.integers(0, expected.size - 1)), "positions"), int)
        count = index.size
        values = -1 - np.arange(count, dtype=np.float32)
        flat[index] = values
    else:
        index = tuple(
            slice(data.draw(BOUNDS), data.draw(BOUNDS))
            for _ in range(data.draw(st.integers(0, len(shape))))
        )
        selected = expected[index]
        values = -1 - np.arange(selected.size, dtype=np.float32).reshape(selected.shape)
        expected[index] = values
    target = patched(source, ElementPatch("t", np.ascontiguousarray(values), index))
    assert np.array_equal(torch.load(target, weights_only=True)["t"].numpy(), expected)
    assert_only_these_bytes_differ(source, target, own_bytes(source, "t"))


def test_slabs_of_a_large_strided_tensor_meet(tmp_path: Path) -> None:
    source = tmp_path / "large.pth"
    base = torch.arange(3_000_000, dtype=torch.int32).reshape(1500, 2000)
    torch.save({"t": base.t()[:, ::2]}, source)
    new = -torch.arange(1_500_000, dtype=torch.int32).reshape(2000, 750)
    target = patched(source, ElementPatch("t", bytes_of(new)))
    loaded = torch.load(target, weights_only=True)["t"]
    assert torch.equal(loaded, new)
    skipped = torch.as_strided(loaded, (2000, 750), (1, 4000), 2000)
    assert torch.equal(skipped, base.t()[:, 1::2])


def test_scattered_elements_of_a_large_tensor(tmp_path: Path) -> None:
    source = tmp_path / "large.pth"
    torch.save({"t": torch.zeros(1_000_000, dtype=torch.int32)}, source)
    index = np.random.default_rng(3).choice(1_000_000, 500, replace=False)
    values = np.arange(1, 501, dtype=np.int32)
    target = patched(source, ElementPatch("t", values, index))
    expected = np.zeros(1_000_000, np.int32)
    expected[index] = values
    assert np.array_equal(torch.load(target, weights_only=True)["t"].numpy(), expected)
    ones = ElementPatch("t", np.ones(1, np.int32), index)
    assert torch.load(patched(source, ones), weights_only=True)["t"].sum() == 500


def test_the_later_of_two_values_wins(saved: Path) -> None:
    twice = ElementPatch("float32", np.array([1, 2], np.float32), np.array([5, 5]))
    again = ElementPatch("float32", np.array([3], np.float32), (slice(0, 1), slice(0, 1)))
    values = torch.load(patched(saved, twice, again), weights_only=True)["float32"]
    assert values.flatten()[5] == 2
    assert values[0, 0] == 3


def test_tied_tensors_change_together(saved: Path) -> None:
    loaded = torch.load(patched(saved, ElementPatch("tied.0", bytes(4))), weights_only=True)
    assert not loaded["tied"][2].any()
    assert not loaded["transposed"].any()
    assert loaded["float32"].any()


def test_an_expanded_tensor_becomes_one_value_or_nothing(saved: Path) -> None:
    one = np.ones(1, np.float32)
    loaded = torch.load(patched(saved, ElementPatch("expanded", one)), weights_only=True)
    assert (loaded["expanded"] == 1).all()
    for change in (
        ElementPatch("expanded", np.ones(12, np.float32)),
        ElementPatch("expanded", one, np.array([0])),
        ElementPatch("expanded", one, (slice(0, 1),)),
        ElementPatch("windows", one),
    ):
        with pytest.raises(CheckpointError, match="share bytes"):
            patched(saved, change)


def test_empty_tensors_and_selections_change_nothing(saved: Path) -> None:
    target = patched(
        saved,
        ElementPatch("empty", b""),
        ElementPatch("empty", bytes(4)),
        ElementPatch("float32", b"", np.array([], int)),
        ElementPatch("float32", b"", (slice(3, 3),)),
    )
    assert target.read_bytes() == saved.read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (ElementPatch("flaot32", bytes(4)), 'no tensor "flaot32" .* did you mean "float32"'),
        (ElementPatch("float32", b""), "12 float32 elements .* need 48 bytes, or 4 .* 0 are given"),
        (ElementPatch("float32", bytes(5)), "5 are given"),
        (ElementPatch("float32", bytes(52)), "52 are given"),
        (ElementPatch("float32", bytes(8), np.array([1, 2, 3])), "8 are given"),
        (ElementPatch("float32", bytes(4), np.array([12])),
         "elements 0 to 11; selected are 12 to 12"),
        (ElementPatch("float32", bytes(4), np.array([-1])), "selected are -1 to -1"),
        (ElementPatch("float32", bytes(4), np.array([0.5])),
         "one axis of integers, not by 1 of float64"),
        (ElementPatch("float32", bytes(4), np.array([[1]])), "one axis of integers, not by 2"),
        (ElementPatch("float32", bytes(4), np.array([True])), "one axis of integers"),
        (ElementPatch("float32", bytes(4), (slice(None),) * 3), "has 2 axes; slices for 3"),
        (ElementPatch("float32", bytes(4), (slice(None, None, -1),)), "does not step forward"),
        (ElementPatch("empty", bytes(5)), "5 are given"),
        (ElementPatch("empty", bytes(4), np.array([0])), "selected are 0 to 0"),
        (ElementPatch("sliced", bytes(4), np.array([12])), "elements 0 to 11"),
    ],
)  # fmt: skip
def test_changes_that_do_not_fit_leave_nothing_behind(
    saved: Path, change: ElementPatch, words: str
) -> None:
    with open_archive(saved) as archive:
        good = ElementPatch("float64", bytes(8))
        with pytest.raises(CheckpointError, match=words):
            write_patched(archive, [good, change], saved.with_name("new.pth"))
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


def test_safetensors_files_change_likewise(tmp_path: Path) -> None:
    source, target = tmp_path / "file.safetensors", tmp_path / "new.safetensors"
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.bfloat16)}
    save_file(tensors, source, {"note": "kept"})
    with open_checkpoint(source) as checkpoint:
        name = checkpoint.tensors["a"].name
        write_patched(checkpoint.archive, [ElementPatch(name, bytes(4), (slice(1, 2),))], target)
    loaded = load_file(target)
    assert loaded["a"].tolist() == [[0, 1, 2], [0, 0, 0]]
    assert torch.equal(loaded["b"], tensors["b"])
    assert_only_these_bytes_differ(source, target, own_bytes(source, "a"))


def test_opaque_objects_survive(shared: Path, tmp_path: Path) -> None:
    source, target = shared / "models" / "mmengine_runner_toy.pth", tmp_path / "new.pth"
    name = "state_dict.backbone.conv1.weight"
    with open_archive(source) as archive:
        write_patched(archive, [ElementPatch(name, bytes(4))], target)
    with open_archive(target) as archive:
        assert not archive.read(name).any()
    assert_only_these_bytes_differ(source, target, own_bytes(source, name))
    with zipfile.ZipFile(target) as archive_file:
        assert archive_file.testzip() is None


def test_changes_are_drawn_one_at_a_time(saved: Path) -> None:
    with open_archive(saved) as archive:

        def halved() -> Iterator[ElementPatch]:
            for name in ("float32", "bfloat16", "float64"):
                yield ElementPatch(name, bytes_of(archive.read(name) / 2))

        target = saved.with_name("new.pth")
        write_patched(archive, halved(), target)
        with open_archive(target) as result:
            assert torch.equal(result.read("bfloat16"), archive.read("bfloat16") / 2)


class StopError(Exception):
    """Something that goes wrong while changes are made."""


def failing(*_: Any) -> Iterator[ElementPatch]:
    yield ElementPatch("float32", bytes(4))
    raise StopError


def test_a_failing_write_leaves_no_file(saved: Path) -> None:
    with open_archive(saved) as archive, pytest.raises(StopError):
        write_patched(archive, failing(), saved.with_name("new.pth"))
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


def test_existing_files_are_left_alone(saved: Path) -> None:
    target = saved.with_name("old.pth")
    target.write_bytes(b"old")
    with (
        open_archive(saved) as archive,
        pytest.raises(UserError, match="exists; choose another place or remove it"),
    ):
        write_patched(archive, [], target)
    assert target.read_bytes() == b"old"


def test_the_checkpoint_itself_is_never_the_copy(saved: Path) -> None:
    link = saved.with_name("link.pth")
    os.link(saved, link)
    with open_archive(saved) as archive:
        for target in (saved, link, saved.parent / "." / saved.name):
            with pytest.raises(CheckpointError, match="is the checkpoint itself"):
                write_patched(archive, [], target)


def test_a_file_that_changed_since_it_was_opened_is_not_copied(saved: Path) -> None:
    with open_archive(saved) as archive:
        os.utime(saved, ns=(0, 0))
        with pytest.raises(CheckpointError, match="was changed on disk while it was open"):
            write_patched(archive, [], saved.with_name("new.pth"))


def test_destinations_that_cannot_be_written_give_one_line(saved: Path) -> None:
    with (
        open_archive(saved) as archive,
        pytest.raises(UserError, match=r"cannot write .*new\.pth: Not a directory"),
    ):
        write_patched(archive, [], saved / "new.pth")


def test_copying_falls_back_where_the_kernel_cannot(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    assert patched(saved).read_bytes() == saved.read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    here = tmp_path / "model"
    (here / "code").mkdir(parents=True)
    save_file({"w": torch.ones(2, 2)}, here / "model.safetensors")
    (here / "config.json").write_text('{"d": 8}')
    (here / "code" / "modeling.py").write_text("raise SystemExit")
    (here / "pytorch_model.bin").write_bytes(b"other weights")
    (here / ".git").mkdir()
    (here / ".git" / "HEAD").write_text("ref")
    return here


def test_a_folder_is_copied_with_its_weights_changed(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    with open_checkpoint(folder) as checkpoint:
        copy_folder_patched(checkpoint, [ElementPatch("w", bytes(4), (slice(1),))], target)
    files = sorted(str(file.relative_to(target)) for file in target.rglob("*") if file.is_file())
    assert files == ["code/modeling.py", "config.json", "model.safetensors"]
    assert load_file(target / "model.safetensors")["w"].tolist() == [[0, 0], [1, 1]]
    assert load_file(folder / "model.safetensors")["w"].tolist() == [[1, 1], [1, 1]]
    assert (target / "config.json").read_text() == '{"d": 8}'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "model"]


def test_links_in_a_folder_become_what_they_point_to(folder: Path, tmp_path: Path) -> None:
    (folder / "also.json").symlink_to("config.json")
    with open_checkpoint(folder) as checkpoint:
        copy_folder_patched(checkpoint, [], tmp_path / "copy")
    copied = tmp_path / "copy" / "also.json"
    assert not copied.is_symlink()
    assert copied.read_text() == '{"d": 8}'


def test_a_snapshot_in_the_hubs_cache_is_copied(folder: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "cache" / "blobs", tmp_path / "cache" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(blobs / name.upper())
        (snapshot / name).symlink_to(Path("../../blobs") / name.upper())
    with open_checkpoint(snapshot) as checkpoint:
        copy_folder_patched(checkpoint, [], tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {
        "config.json",
        "model.safetensors",
    }


@pytest.mark.parametrize("target", ["../secret.txt", "/etc/hostname", "missing", "code"])
def test_links_out_of_a_folder_are_refused(folder: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "vocab.txt").symlink_to(target)
    with (
        open_checkpoint(folder) as checkpoint,
        pytest.raises(CheckpointError, match=r"vocab\.txt is a link to .* no file of the"),
    ):
        copy_folder_patched(checkpoint, [], tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "secret.txt"]


def test_a_folder_is_written_whole_or_not_at_all(folder: Path, tmp_path: Path) -> None:
    target, old = tmp_path / "copy", tmp_path / "old"
    old.mkdir()
    with open_checkpoint(folder) as checkpoint:
        with pytest.raises(UserError, match="exists; choose another place or remove it"):
            copy_folder_patched(checkpoint, [], old)
        with pytest.raises(CheckpointError, match="no tensor"):
            copy_folder_patched(checkpoint, [ElementPatch("x", b"")], target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "old"]
    assert not list(old.iterdir())


def test_a_folder_is_never_copied_into_or_over_itself(folder: Path, tmp_path: Path) -> None:
    with open_checkpoint(folder) as checkpoint:
        for target in (folder, folder / "copy", tmp_path):
            with pytest.raises(CheckpointError, match="lie in one another"):
                copy_folder_patched(checkpoint, [], target)
    with (
        open_checkpoint(folder / "model.safetensors") as checkpoint,
        pytest.raises(CheckpointError, match="not a Hugging Face folder"),
    ):
        copy_folder_patched(checkpoint, [], tmp_path / "copy")


def test_a_real_folder_loses_one_head_and_keeps_the_rest(shared: Path, tmp_path: Path) -> None:
    source, target = shared / "models" / "deimv2_atto", tmp_path / "copy"
    with open_checkpoint(source) as checkpoint:
        key = next(key for key in checkpoint.tensors if key.endswith("self_attn.o_proj.weight"))
        columns = (slice(None), slice(8, 16))
        copy_folder_patched(checkpoint, [ElementPatch(key, bytes(4), columns)], target)
    old = load_file(source / "model.safetensors")
    new = load_file(target / "model.safetensors")
    old[key][:, 8:16] = 0
    assert all(torch.equal(old[name], new[name]) for name in old)
    others = {path.name for path in source.iterdir()} - {"model.safetensors"}
    assert all((target / name).read_bytes() == (source / name).read_bytes() for name in others)
