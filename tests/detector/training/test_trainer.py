"""Training runs end to end: it learns, resumes exactly, and leaves whole files."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import safetensors
import safetensors.torch
import torch

from detector import stopping
from detector.config import HybridConfig
from detector.data.shapes import Shapes
from detector.errors import UserError
from detector.network.model import HybridDetector
from detector.training.devices import thread_count
from tests import small_runs
from tests.small_runs import SMALL, KilledError, Silent

MODEL = SMALL | {"decoder_layers": 2, "transformer_drop_path": 0.1}
trainer = partial(small_runs.trainer, model=MODEL)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


@pytest.fixture(scope="module")
def epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch, which no test changes."""
    folder = tmp_path_factory.mktemp("epoch")
    trainer(folder, epochs=1).run(Silent())
    return folder


def test_the_loss_falls_on_a_few_images(tmp_path: Path) -> None:
    progress = Silent()
    trainer(tmp_path, count=6, epochs=25, lr=3e-3, batch_size=6, flip=0.0).run(progress)
    losses = [record["train_loss"] for record in progress.records]
    assert losses[-1] < 0.6 * losses[0]


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
        model = MODEL | {"denoising": "contrastive"}
        options = {"epochs": 2, "denoising_warmup_epochs": epochs}
        run = trainer(tmp_path / name, 4, model=model, **options)
        start = run.model.denoising.labels.detach().clone()
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


def test_training_leaves_the_global_generator_and_the_precision_alone(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    precision = torch.backends.cuda.matmul.fp32_precision
    trainer(tmp_path, epochs=1).run(Silent())
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.backends.cuda.matmul.fp32_precision == precision


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    scores = iter([0.1, 0.5, 0.3, 0.5])
    run = trainer(tmp_path, 6, evaluate=lambda _: {"mAP_50_95": next(scores), "mAP_50": 0.9})
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


@pytest.mark.parametrize("score", [-1.0, float("nan"), None])
def test_where_nothing_chooses_the_best_weights_the_last_are_kept(
    tmp_path: Path, score: float | None
) -> None:
    """As with a validation set that shows no object."""
    found = {"mAP_50_95": score, "mAP_50": score}
    run = trainer(tmp_path, 3, evaluate=lambda _: found, epochs=2)
    kept = weights(run.run(Silent()))
    assert run.state.best_epoch == 0
    assert "NaN" not in (tmp_path / "history.json").read_text()
    assert all(torch.equal(kept[name], value) for name, value in run.model.state_dict().items())
    assert (tmp_path / "best.pth").is_file()


def test_a_checkpoint_holds_all_that_rebuilds_the_model(epoch: Path) -> None:
    with safetensors.safe_open(epoch / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    config = HybridConfig.from_dict(json.loads(metadata["config"]))
    HybridDetector(config).load_state_dict(weights(epoch / "model.safetensors"))
    assert tuple(json.loads(metadata["classes"])) == Shapes.classes
    assert (epoch / "recipe.yaml").is_file()


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


def test_all_files_of_a_run_can_be_read_by_the_same_people(epoch: Path) -> None:
    assert len({path.stat().st_mode for path in epoch.iterdir()}) == 1


def test_a_folder_that_holds_a_run_is_not_overwritten(epoch: Path) -> None:
    before = (epoch / "latest.pth").read_bytes()
    with pytest.raises(UserError, match="holds a run; give --resume or another folder"):
        trainer(epoch, epochs=1).run(Silent())
    assert (epoch / "latest.pth").read_bytes() == before


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to resume"):
        trainer(tmp_path).run(Silent(), resume=True)


@pytest.mark.parametrize(
    ("changes", "count", "message"),
    [
        ({"batch_size": 4}, 8, "with training.batch_size 3, the recipe says 4"),
        ({"accumulate": 2}, 8, "with training.accumulate 1, the recipe says 2"),
        ({"seed": 7}, 8, "with training.seed 42, the recipe says 7"),
        ({}, 7, "was trained on 8 images of 8 classes; the data now has 7 of 8"),
        ({"model": MODEL | {"queries": 9}}, 8, "another model config"),
    ],
)
def test_resuming_another_course_is_refused(
    epoch: Path, changes: dict[str, object], count: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        trainer(epoch, count, **{"epochs": 2, **changes}).run(Silent(), resume=True)


def test_a_run_that_an_earlier_version_began_resumes(epoch: Path, tmp_path: Path) -> None:
    """Its config lacks settings that are newer, its checkpoint what later ones keep beside it."""
    shutil.copytree(epoch, tmp_path, dirs_exist_ok=True)
    latest = tmp_path / "latest.pth"
    checkpoint = torch.load(latest, weights_only=True)
    config = json.loads(checkpoint["config"])
    assert config.pop("decoder_hidden") is None
    checkpoint["config"] = json.dumps(config)
    torch.save({k: v for k, v in checkpoint.items() if k not in ("data", "threads")}, latest)
    run = trainer(tmp_path, epochs=2)
    run.run(Silent(), resume=True)
    assert run.state.epoch == 2
    for broken in ("[]", "{", '{"queries": {}}', None):
        torch.save(checkpoint | {"config": broken}, latest)
        with pytest.raises(UserError, match="another model config"):
            trainer(tmp_path, epochs=3).run(Silent(), resume=True)


def test_what_is_no_checkpoint_of_a_run_is_refused(tmp_path: Path) -> None:
    latest = tmp_path / "latest.pth"
    for write in (
        lambda: latest.write_bytes(b"nothing"),
        lambda: torch.save([1], latest),
        lambda: torch.save({"epoch": 3, "model": {}, "best_ap": 0.1}, latest),  # the notebooks'
    ):
        write()
        with pytest.raises(UserError, match="is not the checkpoint of a training run"):
            trainer(tmp_path).run(Silent(), resume=True)


def test_a_failed_write_keeps_the_earlier_checkpoint(
    epoch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(epoch, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "latest.pth").read_bytes()

    def full(_: object, file: BinaryIO) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"cannot write .*best\.pth: No space left on device"):
        trainer(tmp_path, epochs=2).run(Silent(), resume=True)
    assert (tmp_path / "latest.pth").read_bytes() == before
    assert not list(tmp_path.glob(".*.tmp"))


def test_the_last_batches_of_an_epoch_are_divided_by_their_number(tmp_path: Path) -> None:
    """Five batches in groups of three: the step of the last two is their mean."""
    run = trainer(tmp_path, count=5, epochs=1, batch_size=1, accumulate=3)
    backward, groups, gradients = run._backward, [], []

    def watched(*args: Any, sync: bool) -> dict[str, torch.Tensor]:
        groups.append((args[1], sync))
        return backward(*args, sync=sync)

    content = run.model.queries.content
    run.before_clipping = lambda: gradients.append(content.grad.clone())
    run._backward = watched
    run.run(Silent())
    assert groups == [(3, False), (3, False), (3, True), (2, False), (2, True)]
    assert len(gradients) == 2


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (9, "no batch with a finite loss in epoch 1.*Try a lower training.lr"),
        (1, "2 steps with a gradient that is NaN or infinite, training.skip_limit is 1 in epoch 1"),
    ],
)
def test_losses_that_are_no_numbers_stop_with_a_clear_word(
    tmp_path: Path, limit: int, message: str
) -> None:
    run = trainer(tmp_path, skip_limit=limit)
    with torch.no_grad():
        run.model.queries.content.fill_(float("nan"))
    with pytest.raises(UserError, match=message):
        run.run(Silent())
    assert not (tmp_path / "latest.pth").exists()
    assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 2


def test_a_run_resumes_with_as_many_threads_as_it_began_with(tmp_path: Path) -> None:
    """Sums are split among them, which changes their last bits."""
    options = {"count": 2, "epochs": 2, "batch_size": 1, "save_every": 1}
    with thread_count(1), pytest.raises(KilledError):
        trainer(tmp_path, **options).run(Silent((2, 2)))
    seen = []

    class Look(Silent):
        def batch(self, look: Mapping[str, float] | None) -> None:
            seen.append(torch.get_num_threads())

    with thread_count(2):
        trainer(tmp_path, **options).run(Look(), resume=True)
        assert torch.get_num_threads() == 2
    assert seen == [1]


CHANGES = {"color": 0.5, "crop": 0.5, "mosaic": 0.5, "multi_scale": [64, 96]}


@pytest.mark.parametrize(("workers", "changes"), [(0, {}), (2, {}), (2, CHANGES)])
def test_a_run_goes_on_in_the_middle_of_an_epoch_to_the_bit(
    tmp_path: Path, workers: int, changes: dict[str, object]
) -> None:
    options = {
        "epochs": 2, "batch_size": 1, "accumulate": 3, "ema": 0.9, "save_every": 1,
        "workers": workers, "log_every": 1, **changes,
    }  # fmt: skip
    trainer(tmp_path / "whole", **options).run(Silent())
    with pytest.raises(KilledError):
        trainer(tmp_path / "parts", **options).run(Silent(stop=(2, 5)))
    # A step after the last checkpoint, noted before the kill: it will be taken again.
    (tmp_path / "parts/skipped.jsonl").write_text('{"step": 1}\n{"step": 4}\n')
    latest = torch.load(tmp_path / "parts/latest.pth", weights_only=True)
    assert (latest["epoch"], latest["position"]["batch"]) == (1, 3)
    trainer(tmp_path / "parts", **options).run(Silent(), resume=True)
    one, other = (
        torch.load(tmp_path / run / "latest.pth", weights_only=True) for run in ("whole", "parts")
    )
    for part in ("model", "ema"):
        assert all(torch.equal(one[part][key], other[part][key]) for key in one[part])
    for number, state in one["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, other["optimizer"]["state"][number][name])
    assert one["optimizer"]["param_groups"] == other["optimizer"]["param_groups"]
    for history in (one["history"], other["history"]):
        del history["train_seconds"], history["data_wait"]
    assert one["history"] == other["history"]
    assert one["position"] == other["position"]
    logs = [
        [json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
        for run in ("whole", "parts")
    ]
    for line in logs[0] + logs[1]:
        del line["images_per_second"], line["memory_gb"], line["clipped/all"]
        del line["clipped/offsets"]
    assert logs[0] == logs[1]
    assert [line["step"] for line in logs[0]] == list(range(6))
    assert (tmp_path / "parts/skipped.jsonl").read_text() == '{"step": 1}\n'


@pytest.mark.parametrize(
    ("at", "workers", "kept"),
    [
        ((2, 2), 0, "1 of 2 epochs and 3 of 8 batches of the next"),
        ((1, 7), 2, "0 of 2 epochs and 8 of 8 batches of the next"),  # all but the evaluation
    ],
)
def test_a_run_that_is_asked_to_stop_keeps_the_step_under_way(
    tmp_path: Path, at: tuple[int, int], workers: int, kept: str
) -> None:
    """A step of three batches: the signal comes after its first."""

    class Asked(Silent):
        def batch(self, look: Mapping[str, float] | None) -> None:
            super().batch(look)
            if self.done == at:
                os.kill(os.getpid(), signal.SIGTERM)

    options = {"epochs": 2, "batch_size": 1, "accumulate": 3, "ema": 0.9, "workers": workers}
    trainer(tmp_path / "whole", **options).run(Silent())
    first = trainer(tmp_path / "parts", **options)
    assert first.kept == ""
    with pytest.raises(stopping.Stopped), stopping.listening():
        first.run(Asked())
    assert first.kept == kept
    second = trainer(tmp_path / "parts", **options)
    second.run(Silent(), resume=True)
    assert second.kept == "2 of 2 epochs"
    one, other = (tmp_path / run / "model.safetensors" for run in ("whole", "parts"))
    assert one.read_bytes() == other.read_bytes()


def test_the_average_is_evaluated_apart_and_is_what_is_kept(tmp_path: Path) -> None:
    seen: list[float] = []

    def evaluate(model: HybridDetector) -> dict[str, float]:
        seen.append(model.queries.content.sum().item())
        return {"mAP_50_95": len(seen) / 10, "mAP_50": 0.9}

    run = trainer(tmp_path, 6, evaluate=evaluate, epochs=2, ema=0.5)
    run.run(Silent())
    assert seen[0] != seen[1]
    history = json.loads((tmp_path / "history.json").read_text())
    assert history["val_mAP_50_95"] == [0.1, 0.3]
    assert history["val_ema_mAP_50_95"] == [0.2, 0.4]
    best = torch.load(tmp_path / "best.pth", weights_only=True)
    kept = weights(tmp_path / "model.safetensors")
    assert all(torch.equal(best["ema"][name], kept[name]) for name in kept)
    assert not torch.equal(best["model"]["queries.content"], kept["queries.content"])
    assert torch.equal(best["model"]["queries.content"], run.model.queries.content)


def test_a_run_stops_when_nothing_gets_better(tmp_path: Path) -> None:
    scores = iter([0.1, 0.5, 0.3, 0.5, 0.9])
    run = trainer(
        tmp_path, 6, evaluate=lambda _: {"mAP_50_95": next(scores), "mAP_50": 0.9},
        epochs=5, stop_after=2,
    )  # fmt: skip
    run.run(Silent())
    assert run.state.epoch == 4
    assert run.state.best_epoch == 2


def test_training_images_are_evaluated_on_request(tmp_path: Path) -> None:
    run = trainer(
        tmp_path, 6, epochs=2, evaluate_every=2,
        evaluate=lambda _: {"mAP_50_95": 0.1, "mAP_50": 0.2},
        evaluate_train=lambda _: {"mAP_50_95": 0.3, "mAP_50": 0.4},
    )  # fmt: skip
    run.run(Silent())
    history = json.loads((tmp_path / "history.json").read_text())
    assert history["train_mAP_50_95"] == [None, 0.3]
    assert history["train_mAP_50"] == [None, 0.4]
    assert history["val_mAP_50"] == [None, 0.2]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("norm", ["gn", "bn"])
def test_activations_computed_again_change_nothing_and_rename_nothing(
    tmp_path: Path, norm: str
) -> None:
    """Running statistics of batch norm included: a batch counts once."""
    for checkpointing in (False, True):
        options = {"epochs": 1, "activation_checkpointing": checkpointing}
        run = trainer(tmp_path / str(checkpointing), model=MODEL | {"norm": norm}, **options)
        run.run(Silent())
    one, other = (weights(tmp_path / str(x) / "model.safetensors") for x in (False, True))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtypes_in_training(module: torch.nn.Module) -> set[torch.dtype]:
    """Filled with what a layer computes in, while it learns."""
    seen: set[torch.dtype] = set()
    module.register_forward_hook(lambda one, _, out: seen.add(out.dtype) if one.training else None)
    return seen


def test_reduced_precision_is_near_and_its_weights_are_whole(tmp_path: Path) -> None:
    losses = []
    for precision in ("fp32", "bf16", "fp16"):
        progress = Silent()
        run = trainer(tmp_path / precision, epochs=2, precision=precision)
        computed = dtypes_in_training(run.model.backbone.stem.conv1)
        kept = weights(run.run(progress))
        assert computed == {DTYPES[precision]}
        losses.append(progress.records[-1]["train_loss"])
        assert {value.dtype for value in kept.values()} == {torch.float32}
    assert len(set(losses)) == 3
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=0.1)
    assert run.precision.scaler.get_scale() != 1.0


def test_single_modules_are_clipped_and_the_log_says_so(tmp_path: Path) -> None:
    options = {"epochs": 1, "batch_size": 2, "log_every": 2}
    trainer(tmp_path / "a", **options, clip_modules={"backbone": 1e-3}).run(Silent())
    trainer(tmp_path / "b", **options).run(Silent())
    lines = [json.loads(line) for line in (tmp_path / "a/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2]
    assert all(line["norm/backbone"] > 1e-3 for line in lines)
    assert all(line["clipped/backbone"] == 1.0 for line in lines)
    assert all(line["clipped/all"] in (0.0, 0.5, 1.0) for line in lines)
    one, other = (weights(tmp_path / run / "model.safetensors") for run in "ab")
    assert not torch.equal(one["backbone.stem.conv1.weight"], other["backbone.stem.conv1.weight"])
    with pytest.raises(UserError, match=r'clip_modules names no module "neek".*"neck"'):
        trainer(tmp_path / "c", clip_modules={"neek": 1.0})


def test_an_average_that_comes_or_goes_is_refused_on_resuming(tmp_path: Path) -> None:
    trainer(tmp_path, epochs=1, ema=0.9).run(Silent())
    with pytest.raises(UserError, match=r"has an average of the weights; training.ema disagrees"):
        trainer(tmp_path, epochs=2).run(Silent(), resume=True)


def test_modules_are_frozen_by_patterns(tmp_path: Path) -> None:
    run = trainer(tmp_path, freeze=["backbone.stage?", "decoder.layers.*.ffn"])
    assert not any(p.requires_grad for p in run.model.backbone.stage2.parameters())
    assert not any(p.requires_grad for p in run.model.decoder.layers[1].ffn.parameters())
    assert run.model.backbone.stem.conv1.weight.requires_grad


def test_batches_of_one_tiny_image_train_or_are_refused(tmp_path: Path) -> None:
    """Of 32 pixels, p6 is one cell: group norm needs groups of more than one channel."""
    wide = MODEL | {"widths": [16, 32, 16, 64], "d_model": 64}
    options = {"epochs": 1, "batch_size": 1, "multi_scale": [32, 64]}
    trainer(tmp_path / "run", 2, model=wide, **options).run(Silent())
    with pytest.raises(UserError, match=r"training\.multi_scale: image_size is 32.*p6 is one cell"):
        trainer(tmp_path, **options)
    with pytest.raises(UserError, match=r"leave batch norm .* one number per channel of p6"):
        trainer(tmp_path / "bn", 2, model=wide | {"norm": "bn"}, **options)


def test_the_average_begins_with_the_weights_that_a_run_begins_from(tmp_path: Path) -> None:
    run = trainer(tmp_path, ema=0.9)
    other = HybridDetector(run.config, seed=7).state_dict()
    run.model.load_state_dict(other)
    run.set_initial_weights({"path": "other.pth"})
    assert run.ema is not None
    assert all(torch.equal(run.ema.average[name], value) for name, value in other.items())


def test_the_images_of_every_batch_of_a_step_left_out_are_kept(tmp_path: Path) -> None:
    """Accumulated batches included; neither weights nor moments of the optimizer move."""
    run = trainer(tmp_path, count=6, epochs=1, batch_size=1, accumulate=3)
    backward, step = run._backward, run._step
    kept: list[dict[str, torch.Tensor]] = []

    def spoiled(*args: object, **kwargs: object) -> dict[str, torch.Tensor]:
        terms = backward(*args, **kwargs)
        if run.state.batch == 4:
            run.model.queries.content.grad.fill_(float("nan"))
        return terms

    def watched(*args: object) -> Any:
        done = step(*args)
        content = run.model.queries.content
        now = {"weights": content.detach(), **run.optimizer.state[content]}
        kept.append({name: value.clone() for name, value in now.items()})
        return done

    run._backward, run._step = spoiled, watched
    run.run(Silent())
    record = json.loads((tmp_path / "skipped.jsonl").read_text())
    assert (record["step"], len(set(record["image_ids"]))) == (1, 3)
    assert run.state.skipped == 1
    assert len(kept) == 2
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])


def test_a_log_for_tensorboard_holds_what_the_others_do(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer(tmp_path, epochs=2, log=["tensorboard"], log_every=1).run(Silent())
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for name in ("loss/loss", "lr", "norm/all", "clipped/all", "memory_gb"):
        written = [(event.step, event.value) for event in events.Scalars(name)]
        assert written == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in log]
    assert "  log:\n  - tensorboard\n" in (tmp_path / "recipe.yaml").read_text()
    history = json.loads((tmp_path / "history.json").read_text())
    written = [(event.step, event.value) for event in events.Scalars("epoch/train_loss")]
    assert written == [
        (epoch, pytest.approx(loss, rel=1e-6))
        for epoch, loss in zip(history["epoch"], history["train_loss"], strict=True)
    ]
