"""Digests of files."""

from pathlib import Path

import pytest

from ablate_kit.checkpoints import CheckpointError
from ablate_kit.checkpoints.digest import sha256


def test_the_digest_is_that_of_the_standard(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_missing_file_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*nowhere: No such file"):
        sha256(tmp_path / "nowhere")
