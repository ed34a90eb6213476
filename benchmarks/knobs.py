"""What all decoder depths of a detector take, as a multiple of one pass of the whole detector.

    python benchmarks/knobs.py                                  # the shipped detector
    python benchmarks/knobs.py FOLDER --trust-remote-code       # a Hugging Face folder

Operations are counted; times are of both taking turns, with the 95 % interval over rounds.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path

import torch

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.costs.latency import TimingRounds, take_turns
from ablate_kit.costs.one_pass import flops_of
from ablate_kit.knobs.reused_calls import ReusedCalls
from ablate_kit.models.inference.detect import inference
from ablate_kit.models.opening.framework_registry import choose
from ablate_kit.models.opening.open import open_adapter
from detector.data.shapes import Shapes
from detector.zoo import SHAPES_TINY


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, nargs="?", default=SHAPES_TINY)
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    with open_checkpoint(given.checkpoint) as file:
        turned = choose(file).framework.knobs
        adapter = open_adapter(file, trust_remote_code=given.trust_remote_code, device=given.device)
    if turned is None:
        parser.error(f"no knobs are known of {given.checkpoint}")
    knobs = turned(adapter)
    depths = range(1, knobs.now("depth"))
    adapters = [adapter, *(knobs.configured("depth", depth) for depth in depths)]
    for one in adapters:
        one.module.requires_grad_(False)
    calls = ReusedCalls()
    prepared = adapter.prepare(Shapes(1, size=320).image(0)).inputs

    def wait() -> None:
        if torch.device(given.device).type == "cuda":
            torch.cuda.synchronize(given.device)

    with inference(adapter.module, deterministic=False), ExitStack() as stack:
        for one in adapters:
            stack.enter_context(calls.within(knobs.reusable(one)))
        for batch in (1, 8):
            inputs = {name: torch.cat([one] * batch) for name, one in prepared.items()}

            def alone() -> None:
                with calls.paused():
                    adapter.forward(inputs)  # noqa: B023 - called within the loop

            def every() -> None:
                for one in adapters:
                    one.forward(inputs)  # noqa: B023 - called within the loop
                calls.forget()

            whole, together = take_turns(
                [alone, every], TimingRounds(given.rounds, given.rounds), wait
            )
            ratio = together.against(whole)
            counted = flops_of(every, adapter.module) / flops_of(alone, adapter.module)
            print(
                f"batch {batch}: {len(adapters)} depths take {counted:.3f} x the operations and "
                f"{ratio.value:.3f} x ({ratio.low:.3f} to {ratio.high:.3f}) the time of one pass"
            )


if __name__ == "__main__":
    main()
