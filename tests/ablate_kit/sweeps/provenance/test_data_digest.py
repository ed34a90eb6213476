"""The digest of a data set's images."""

import pytest

from ablate_kit.sweeps.provenance.data_digest import data_digest
from detector.data.shapes import Shapes


def test_reading_that_takes_a_while_is_told_once(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = data_digest(Shapes(4))
    assert told == []
    monkeypatch.setattr("ablate_kit.sweeps.provenance.data_digest._MOMENT", 0.0)
    assert data_digest(Shapes(4)) == quick
    (note,) = told
    assert note.startswith("reading the files of 4 images once, to know them again: 1 are read, ")
