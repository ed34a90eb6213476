"""A torch file keeps checksums of its records: what does not have its own is never used."""

from pathlib import Path

import pytest
import torch

from ablate_kit.checkpoints import CheckpointError, open_archive, open_checkpoint
from ablate_kit.checkpoints.edit.elements import ElementPatch
from ablate_kit.checkpoints.edit.patched_copy import write_patched
from ablate_kit.checkpoints.stats import stats
from ablate_kit.checkpoints.values import read_bits

SHARED = torch.arange(600.0)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A bit of ``a``, and of the bytes that ``left`` and ``right`` share, is another than was
    written; ``b`` is whole."""
    path = tmp_path / "model.pth"
    tensors = {"a": torch.ones(10, 7), "b": torch.ones(5), "left": SHARED[:300]}
    torch.save(tensors | {"right": SHARED[300:]}, path)
    with open_archive(path) as archive:
        places = [archive.tensor("a").offset + 9, archive.tensor("right").offset + 9]
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 1
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a", "left", "right"])
def test_a_tensor_of_other_bytes_than_were_written_is_not_read(damaged: Path, name: str) -> None:
    told = rf"model\.pth is damaged: tensor '{name}' does not have the checksum"
    with open_archive(damaged) as archive:
        info = archive.tensor(name)
        for read in (
            lambda: archive.read(name),
            lambda: read_bits(archive, info),
            lambda: stats(archive, info),
        ):
            with pytest.raises(CheckpointError, match=told):
                read()
        assert torch.equal(archive.read("b"), torch.ones(5))


def test_a_copy_renews_no_checksum_of_what_was_damaged(damaged: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pth"
    with open_checkpoint(damaged) as opened:
        with pytest.raises(CheckpointError, match="damaged: tensor 'left'"):
            write_patched(opened.archive, [ElementPatch("left", bytes(4), (slice(1),))], copy)
        assert not copy.exists()
        write_patched(opened.archive, [ElementPatch("b", bytes(4))], copy)
    with open_archive(copy) as archive:
        assert torch.equal(archive.read("b"), torch.zeros(5))
        with pytest.raises(CheckpointError, match="damaged: tensor 'a'"):
            archive.read("a")


def test_the_description_of_the_tensors_has_a_checksum_too(damaged: Path) -> None:
    data = damaged.read_bytes()
    damaged.write_bytes(data.replace(b"right", b"riggt", 1))
    with pytest.raises(CheckpointError, match=r"description of the tensors \(data\.pkl\)"):
        open_archive(damaged)


def test_where_no_checksums_were_computed_none_are_asked_for(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(10, 7)}, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    with open_archive(tmp_path / "a.pth") as archive:
        assert torch.equal(archive.read("a"), torch.ones(10, 7))
