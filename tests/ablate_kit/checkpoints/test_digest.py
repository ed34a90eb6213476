"""Digests of files."""

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ablate_kit.checkpoints import CheckpointError, open_archive
from ablate_kit.checkpoints.digest import digest_of_archive, sha256


def test_the_digest_is_that_of_the_standard(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_missing_file_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*nowhere: No such file"):
        sha256(tmp_path / "nowhere")


def test_the_digest_is_of_what_was_opened(tmp_path: Path) -> None:
    """A file that takes the name of an open one is another; one that is written to is refused."""
    path = tmp_path / "a.safetensors"
    save_file({"w": np.ones(3, np.float32)}, path)
    before = sha256(path)
    with open_archive(path) as archive:
        save_file({"w": np.zeros(3, np.float32)}, tmp_path / "other")
        (tmp_path / "other").replace(path)
        assert digest_of_archive(archive) == before
    with open_archive(path) as archive:
        os.utime(path, ns=(0, 0))
        with pytest.raises(CheckpointError, match="was changed on disk while it was open"):
            digest_of_archive(archive)
