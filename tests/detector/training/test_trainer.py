"""Training runs end to end: it learns, resumes exactly, and leaves whole files."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from detector.config import HybridConfig
from detector.data.dataset import limit
from detector.data.shapes import Shapes
from detector.errors import UserError
from detector.network.model import HybridDetector
from detector.training.recipe import TrainRecipe, parse_recipe
from detector.training.trainer import Trainer

SMALL = {
    "preset": "tiny",
    "image_size": 64,
    "widths": [16, 32, 16, 16],
    "depths": [1, 1, 1, 1],
    "d_model": 32,
    "queries": 8,
    "decoder_layers": 2,
    "transformer_drop_path": 0.1,
}


class Silent:
    def __init__(self) -> None:
        self.records: list[Mapping[str, float | None]] = []

    def start(self, epoch: int, epochs: int, batches: int) -> None: ...

    def batch(self, loss: float | None) -> None: ...

    def finish(self, record: Mapping[str, float | None]) -> None:
        self.records.append(record)


def recipe(**training: object) -> TrainRecipe:
    options = {"epochs": 4, "batch_size": 3, "lr": 1e-3, "warmup_epochs": 1.0, **training}
    values = {"model": SMALL, "data": {"kind": "shapes"}, "training": options}
    return parse_recipe(values, where="test")


def trainer(folder: Path, count: int = 8, **training: object) -> Trainer:
    return Trainer(recipe(**training), limit(Shapes(100, size=64), count), folder)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


def test_the_loss_falls_on_a_few_images(tmp_path: Path) -> None:
    progress = Silent()
    trainer(tmp_path, count=6, epochs=25, lr=3e-3, batch_size=6, flip=0.0).run(progress)
    losses = [record["train_loss"] for record in progress.records]
    assert losses[-1] < 0.6 * losses[0]  # type: ignore[operator]


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    """Accumulation with a remainder, drop paths and flips included."""
    options = {"accumulate": 2, "workers": 0}
    whole = trainer(tmp_path / "whole", **options)
    whole.run(Silent())

    class StoppedError(Exception):
        pass

    class Stop(Silent):
        def start(self, epoch: int, epochs: int, batches: int) -> None:
            if epoch == 3:
                raise StoppedError

    with pytest.raises(StoppedError):
        trainer(tmp_path / "parts", **options).run(Stop())
    trainer(tmp_path / "parts", **options).run(Silent(), resume=True)
    for name in ("model.safetensors",):
        one, other = (weights(tmp_path / run / name) for run in ("whole", "parts"))
        assert all(torch.equal(one[key], other[key]) for key in one)
    histories = [
        json.loads((tmp_path / run / "history.json").read_text()) for run in ("whole", "parts")
    ]
    for history in histories:
        del history["train_seconds"]
    assert histories[0] == histories[1]


def test_the_same_recipe_gives_the_same_bytes(tmp_path: Path) -> None:
    files = set()
    for run in range(4):
        torch.manual_seed(run)  # whatever the program did before
        folder = tmp_path / str(run)
        trainer(folder, epochs=1).run(Silent())
        files.add((folder / "model.safetensors").read_bytes())
    assert len(files) == 1


def test_denoising_trains_and_its_warm_up_counts(tmp_path: Path) -> None:
    results = []
    for name, epochs in (("a", 0), ("b", 0), ("c", 3)):
        made = recipe(epochs=2, denoising_warmup_epochs=epochs)
        made = made.model_copy(update={"model": made.model | {"denoising": "contrastive"}})
        run = Trainer(made, limit(Shapes(100, size=64), 4), tmp_path / name)
        start = run.model.denoising.labels.detach().clone()  # type: ignore[union-attr]
        results.append(weights(run.run(Silent())))
        assert not torch.equal(start, results[-1]["denoising.labels"])
    one, same, warmed = results
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["denoising.labels"], warmed["denoising.labels"])


def test_workers_do_not_change_the_result(tmp_path: Path) -> None:
    for workers in (0, 2):
        trainer(tmp_path / str(workers), epochs=2, workers=workers).run(Silent())
    one, other = (weights(tmp_path / str(n) / "model.safetensors") for n in (0, 2))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_training_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    trainer(tmp_path, epochs=1).run(Silent())
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    scores = iter([0.1, 0.5, 0.3, 0.5])
    run = Trainer(
        recipe(),
        limit(Shapes(100, size=64), 6),
        tmp_path,
        evaluate=lambda _: {"mAP_50_95": next(scores), "mAP_50": 0.9},
    )
    run.run(Silent())
    best = torch.load(tmp_path / "best.pth", weights_only=True)
    latest = torch.load(tmp_path / "latest.pth", weights_only=True)
    assert (best["epoch"], best["best_ap"]) == (2, 0.5)  # an equal score is not better
    assert latest["epoch"] == 4
    kept = weights(tmp_path / "model.safetensors")
    assert all(torch.equal(best["model"][name], kept[name]) for name in kept)
    history = json.loads((tmp_path / "history.json").read_text())
    assert history["val_mAP_50_95"] == [0.1, 0.5, 0.3, 0.5]
    assert len(history["train_loss"]) == 4


def test_a_checkpoint_holds_all_that_rebuilds_the_model(tmp_path: Path) -> None:
    trainer(tmp_path, epochs=1).run(Silent())
    with safetensors.safe_open(tmp_path / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    config = HybridConfig.from_dict(json.loads(metadata["config"]))
    HybridDetector(config).load_state_dict(weights(tmp_path / "model.safetensors"))
    assert tuple(json.loads(metadata["classes"])) == Shapes.classes
    assert (tmp_path / "recipe.yaml").is_file()


def test_frozen_modules_keep_their_weights_and_run_as_in_evaluation(tmp_path: Path) -> None:
    run = trainer(tmp_path, epochs=1, freeze=["backbone", "decoder.layers.0"])
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    run.run(Silent())
    assert not run.model.backbone.pgi1.training
    changed = {
        name
        for name, tensor in run.model.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert changed
    assert not any(name.startswith(("backbone.", "decoder.layers.0.")) for name in changed)
    assert any(name.startswith("decoder.layers.1.") for name in changed)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (["bakbone"], 'no module "bakbone" of the detector; did you mean "backbone"'),
        ([""], "training.freeze leaves nothing to train"),
    ],
)
def test_what_cannot_be_frozen_is_named(tmp_path: Path, freeze: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        trainer(tmp_path, freeze=freeze)


def test_all_files_of_a_run_can_be_read_by_the_same_people(tmp_path: Path) -> None:
    trainer(tmp_path, epochs=1).run(Silent())
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    trainer(tmp_path, epochs=1).run(Silent())
    before = (tmp_path / "latest.pth").read_bytes()
    with pytest.raises(UserError, match="holds a run; give --resume or another folder"):
        trainer(tmp_path, epochs=1).run(Silent())
    assert (tmp_path / "latest.pth").read_bytes() == before


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to resume"):
        trainer(tmp_path).run(Silent(), resume=True)


def test_resuming_another_model_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, epochs=1).run(Silent())
    other = parse_recipe(
        {"model": {**SMALL, "queries": 9}, "data": {"kind": "shapes"}, "training": {}}, "test"
    )
    with pytest.raises(UserError, match="another model config"):
        Trainer(other, Shapes(8, size=64), tmp_path).run(Silent(), resume=True)


def test_a_loss_that_is_no_number_stops_with_a_clear_word(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    with torch.no_grad():
        run.model.queries.content.fill_(float("nan"))
    with pytest.raises(UserError, match=r"the loss is nan in epoch 1; try a lower training\.lr"):
        run.run(Silent())
    assert not (tmp_path / "latest.pth").exists()
