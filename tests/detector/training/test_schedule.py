"""Which batches make a step: by counting them one by one."""

import pytest

from detector.training.recipes.loop_recipe import LoopOptions
from detector.training.schedule import Schedule


@pytest.mark.parametrize(("batches", "accumulate"), [(7, 3), (6, 3), (5, 1), (2, 4)])
def test_groups_steps_and_batches_are_those_of_a_count(batches: int, accumulate: int) -> None:
    schedule = Schedule(LoopOptions(accumulate=accumulate), batches)
    step, group = 0, []
    for epoch in range(3):
        for batch in range(batches):
            # A position within a group is that of the step under way, counted.
            assert schedule.step(epoch, batch) == step + bool(group)
            group.append(batch)
            ends = len(group) == accumulate or batch == batches - 1
            size, is_last = schedule.group(batch)
            assert is_last == ends
            assert batch in schedule.batches(step)
            assert size == len(schedule.batches(step))
            if ends:
                assert list(schedule.batches(step)) == group
                step, group = step + 1, []
    assert step == 3 * schedule.steps_per_epoch


def test_the_rate_rises_in_the_first_epochs_and_falls_to_the_end() -> None:
    options = LoopOptions(epochs=10, warmup_epochs=2, warmup_start=0.1, final_lr=0.05)
    schedule = Schedule(options, 4)
    rates = [schedule.rate(step) for step in range(10 * 4 + 1)]
    assert (rates[0], rates[8], rates[-1]) == (0.1, 1.0, pytest.approx(0.05))
    assert rates[:9] == sorted(rates[:9])
    assert rates[8:] == sorted(rates[8:], reverse=True)
