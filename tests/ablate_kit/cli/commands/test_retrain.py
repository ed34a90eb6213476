"""What ``ablate retrain`` says of each run that has ended."""

from types import SimpleNamespace
from typing import Any

import pytest

from ablate_kit.cli.commands.retrain import _Ended


def test_time_left_is_told_by_the_epochs_that_are_ahead(capsys: pytest.CaptureFixture[str]) -> None:
    def run(name: str, epochs: int) -> Any:
        return SimpleNamespace(
            name=name, recipe=SimpleNamespace(training=SimpleNamespace(epochs=epochs))
        )

    def outcome(seconds: float) -> Any:
        return SimpleNamespace(seconds=seconds, evaluation=SimpleNamespace(overall={"AP": 0.5}))

    kept, *ahead = (run("kept", 2), run("one", 2), run("long", 4), run("two", 2))
    ended = _Ended(ahead)
    ended.tell(kept, outcome(1e6), True)
    ended.tell(ahead[0], outcome(100), False)
    ended.tell(ahead[1], outcome(200), False)
    ended.tell(ahead[2], outcome(100), False)
    assert capsys.readouterr().out.splitlines() == [
        "one  AP 0.5000  100 s; 2 runs left, about 5:00",
        "long  AP 0.5000  200 s; 1 run left, about 1:40",
        "two  AP 0.5000  100 s",
    ]
