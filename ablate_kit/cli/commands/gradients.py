"""``ablate gradients``: a brief training run, and what learns in it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from ablate_kit.cli.common_options import Device, output_to, set_option
from ablate_kit.cli.dataset_options import Images
from ablate_kit.cli.early import check_recipe, check_there
from ablate_kit.cli.model_options import ModelOptions
from ablate_kit.cli.output import print_json, say_lines
from ablate_kit.errors import UserError
from ablate_kit.gradients.thresholds import parse_thresholds
from ablate_kit.progress_bars import progress
from detector.errors import check_can_write
from detector.stopping import keeping

if TYPE_CHECKING:
    from ablate_kit.gradients.monitor import GradientMonitor
    from ablate_kit.gradients.short_run import ShortRun
    from ablate_kit.models.training import Training
    from ablate_kit.reports.gradient_reports.gradients_text import GradientReport
    from detector.data.dataset import Dataset
    from detector.training.recipes.train_recipe import TrainRecipe

LR, BATCH_SIZE = 2e-4, 8  # the thesis notebook's, where no recipe says


def gradients(
    source: Annotated[
        Path, Argument(help="A recipe (.yaml) to train from scratch, or a checkpoint.")
    ],
    output: Annotated[Path, output_to("Folder for the reports.")],
    *,
    iterations: Annotated[int, Option(help="Optimizer steps.", min=1)] = 2000,
    batch_size: Annotated[
        int | None, Option(help="Batch size; the recipe's, or 8.", min=1, show_default=False)
    ] = None,
    lr: Annotated[
        float | None,
        Option(help="Constant learning rate; the recipe's, or 2e-4.", show_default=False),
    ] = None,
    settings: Annotated[list[str] | None, set_option("model.preset=tiny")] = None,
    data: Images,
    model: ModelOptions,
    thresholds: Annotated[
        list[str] | None,
        Option("--threshold", help="vanishing=1e-7, low=1e-5, high=10, change=1e-8 ..."),
    ] = None,
    compat: Annotated[
        bool, Option("--compat", help="Count the thesis notebook's six categories, too.")
    ] = False,
    depth: Annotated[int, Option(help="Levels of a name that make a module.", min=1)] = 2,
    every: Annotated[int, Option(help="Steps between writings of the report.", min=1)] = 200,
    seed: Annotated[
        int | None, Option(help="Seed; the recipe's, or 42.", min=0, max=2**63 - 1)
    ] = None,
    device: Device = "cpu",
    as_json: Annotated[bool, Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Train briefly and tell which parameters learn, which do not, and why."""
    _check_options(source, settings, data, model)
    if lr is not None and not 0 < lr < math.inf:
        raise UserError(f"--lr is {lr:g}; expected a number above 0")
    chosen = {"batch_size": batch_size, "lr": lr, "seed": seed}
    given = {name: value for name, value in chosen.items() if value is not None}
    recipe = None
    if _is_recipe(source):
        check_recipe(source, "train", settings, other_data=data.named())
        recipe = _recipe(source, settings or [], given)
    else:
        check_there(source)
    limits = parse_thresholds(thresholds or [])
    from ablate_kit.gradients.monitor import GradientMonitor
    from ablate_kit.gradients.short_run import train_briefly
    from ablate_kit.models.inference.device import check_device
    from ablate_kit.reports.gradient_reports.gradients_folder import to_dict
    from ablate_kit.reports.gradient_reports.gradients_text import summary

    check_can_write(output)
    check_device(device)
    dataset = None
    if data.named():
        from detector.data.dataset import check_learnable

        dataset = data.open()
        check_learnable(dataset)
    called: dict[str, str] = {}
    if recipe:
        training, about = _by_recipe(recipe, source, dataset, device)
    else:
        training, about, called = _from_checkpoint(source, model, given, dataset, device)
    about |= {"iterations": iterations, "device": device}

    monitor = GradientMonitor(
        training.model, training.optimizer, thresholds=limits, compat=compat, called=called
    )
    reports = _Reports(output, monitor, about, depth)
    with progress() as bars, keeping(reports.kept):
        bar = bars.add_task("", total=iterations)

        def after(outcome: "ShortRun") -> None:
            reports.last = outcome
            bars.update(bar, advance=1, description=f"loss {outcome.loss:.3f}")
            if outcome.steps % every == 0 or outcome.steps == min(every, 20):
                reports.write()

        try:
            with monitor:
                train_briefly(training, monitor, iterations, seed=int(about["seed"]), after=after)
        finally:  # an interrupted run leaves its report, too
            reports.write()
    last = reports.last
    if last is None:
        return
    report = reports.report(last)
    if as_json:
        print_json(to_dict(report))
        return
    say_lines(summary(report))
    if not math.isfinite(last.loss):
        say_lines(f"\nstopped at step {last.steps} of {iterations}: the loss is {last.loss}")
    say_lines(f"\nwritten to {output}: report.html, two text reports, tensors.csv, JSON, figures")


@dataclass
class _Reports:
    """The reports of a run under way, written anew now and then."""

    output: Path
    monitor: "GradientMonitor"
    about: dict[str, Any]
    depth: int
    last: "ShortRun | None" = None
    written: int = 0  # steps that the folder tells of

    def report(self, outcome: "ShortRun") -> "GradientReport":
        from ablate_kit.reports.gradient_reports.gradients_folder import report_of

        now = self.about | {"loss of the last step": f"{outcome.loss:.4g}"}
        return report_of(self.monitor, now, attribution=outcome.attribution, depth=self.depth)

    def write(self) -> None:
        """Of the last step, where the folder does not tell of it yet."""
        if self.last is None or self.written == self.last.steps:
            return
        from ablate_kit.reports.gradient_reports.gradients_folder import write_gradients

        if not self.written:  # another run may have begun since
            check_can_write(self.output)
        write_gradients(self.output, self.report(self.last))
        self.written = self.last.steps

    def kept(self) -> str:
        return f"{self.output} tells of the first {self.written} steps" if self.written else ""


def _is_recipe(source: Path) -> bool:
    return source.suffix in (".yaml", ".yml")


def _check_options(
    source: Path, settings: list[str] | None, data: Images, model: ModelOptions
) -> None:
    """Raises ``UserError`` for options that go with another kind of first argument, or alone with
    others."""
    if data.limit and not data.named():
        raise UserError("--limit goes with a data set; a recipe has data.train_limit")
    if data.any() and not data.named():
        raise UserError(
            "--split, --exif, --voc-classes and --yolo-root go with a data set; a recipe has its "
            "own keys"
        )
    if settings and not _is_recipe(source):
        raise UserError("--set changes a recipe; a checkpoint has none")
    about_model = model.model or model.weights or model.trust_remote_code or model.class_names
    if about_model and _is_recipe(source):
        options = "--model, --weights, --class-names and --trust-remote-code"
        raise UserError(f"{options} go with a checkpoint")


def _recipe(path: Path, settings: list[str], given: dict[str, Any]) -> "TrainRecipe":
    from ablate_kit.shipped import recipe_file
    from detector.training.recipes.train_recipe import load_recipe

    changes = [f"training.{name}={value!r}" for name, value in given.items()]
    recipe = load_recipe(recipe_file(path, "train"), [*settings, *changes])
    recipe.check_model()
    return recipe


def _by_recipe(
    recipe: "TrainRecipe", path: Path, dataset: "Dataset | None", device: str
) -> "tuple[Training, dict[str, Any]]":
    from ablate_kit.models.frameworks.hybrid_detector.hybrid_training import HybridTraining

    if dataset is None:
        dataset, _ = recipe.data.datasets()
    training = HybridTraining(recipe, dataset, device)
    options = recipe.training
    about = {"model": "HybridDetector", "from": f"{path}, from scratch", "images": len(dataset)}
    about |= {"batch size": options.batch_size, "accumulated": options.accumulate}
    return training, about | {"learning rate": options.lr, "seed": options.seed}


def _from_checkpoint(
    path: Path, model: ModelOptions, given: dict[str, Any], dataset: "Dataset | None", device: str
) -> "tuple[Training, dict[str, Any], dict[str, str]]":
    """The training, what it is, and what the checkpoint calls the model's parameters."""
    from ablate_kit.models.opening.framework_registry import choose

    if dataset is None:
        raise UserError(
            f"{path} names no data: give --annotations with --images, --voc with --split, or "
            "--shapes"
        )
    options = {"batch_size": BATCH_SIZE, "lr": LR, "seed": 42} | given
    with model.runnable(path) as (_, opened):
        chosen = choose(opened, model.model)
        train = chosen.framework.training
        if train is None:
            raise UserError(f"{path}: no training is known for models of {chosen.model}")
        adapter = model.open(opened, device)
    training = train(adapter, dataset, options, device)
    name = type(training.model).__name__
    about = {"model": name, "from": str(path), "images": len(dataset)}
    about |= {"batch size": options["batch_size"], "accumulated": 1}
    about |= {"learning rate": options["lr"], "seed": options["seed"]}
    called = {live: name for name, places in adapter.live_names().items() for live in places}
    return training, about, called
