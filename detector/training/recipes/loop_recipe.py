"""The settings of the training loop, whatever is trained."""

from typing import Annotated, Literal

from pydantic import Field

from detector.loggers.open_loggers import LoggerName
from detector.training.recipes.recipe_file import (
    Count,
    Natural,
    Nonnegative,
    Positive,
    Rate,
    Section,
    Share,
)
from detector.training.seeds import Seed


class LoopOptions(Section):
    epochs: Count = 100
    batch_size: Count = 8
    accumulate: Count = 1  # batches per optimizer step
    lr: Rate = 1e-4
    multipliers: dict[str, Rate] = {}  # changes to the groups' factors
    weight_decay: Nonnegative = 0.02
    warmup_epochs: Nonnegative = 2.0
    warmup_start: Share = 0.01
    final_lr: Share = 0.01  # of every group's rate, at the end
    clip: Positive = 10.0  # gradient norm of all parameters; .inf: none is clipped
    clip_offsets: Positive = 0.3  # gradient norm of the sampling offsets, before that
    clip_modules: dict[str, Positive] = {}  # of single modules, before both
    ema: Annotated[float, Field(ge=0, lt=1)] | None = 0.0  # decay of the weights' average; 0: none
    # Of the forward pass; losses are in fp32, and fp32 is without TF32.
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    # On a GPU, the same bits from the same recipe, and slower; on a CPU they are the same anyway.
    deterministic: bool = False
    evaluate_every: Count = 1  # epochs
    stop_after: Natural = 0  # evaluations without a better one; 0: never
    save_every: Natural | None = 0  # optimizer steps between saves within an epoch; 0: none
    log_every: Count = 10  # optimizer steps
    log: list[LoggerName] = []  # where the log goes besides the run's folder
    skip_limit: Natural = 10  # steps whose gradient is NaN or infinite, and which are skipped
    workers: Natural = 0
    seed: Seed = 42
    freeze: list[str] = []  # modules (or patterns) that keep their weights, as in evaluation
