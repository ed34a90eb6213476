"""Every command end to end, as a user runs it."""

import hashlib
import json
from pathlib import Path

import safetensors
import torch

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.reports.results_schema import ResultsFile
from tests.ablate_kit.conftest import Ablate, Run


def state(path: Path) -> dict[str, torch.Tensor]:
    with open_checkpoint(path) as checkpoint:
        return checkpoint.state_dict()


def changed(before: Path, after: Path) -> dict[str, int]:
    """How many elements of which tensors differ."""
    one, other = state(before), state(after)
    assert one.keys() == other.keys()
    counts = {name: int((one[name] != other[name]).sum()) for name in one}
    return {name: count for name, count in counts.items() if count}


def test_keys_as_a_table(run: Run, hybrid: Path) -> None:
    lines = run("keys", hybrid, "decoder.layers.0.self_attn").splitlines()
    assert lines[0].split() == ["tensor", "shape", "dtype", "elements"]
    assert lines[2].split() == ["decoder.layers.0.self_attn.in_proj_bias", "96", "float32", "96"]
    assert lines[-1] == f"4 tensors, 4,224 elements, 0.02 MB in {hybrid}"


def test_keys_as_a_tree(run: Run, hybrid: Path) -> None:
    lines = run("keys", hybrid, "queries", "--format", "tree").splitlines()
    assert lines[0] == "queries  834 elements, 0.00 MB"
    assert "  content  12x32 float32" in lines
    assert "    weight  2x32 float32" in lines


def test_keys_as_a_tree_of_one_level(run: Run, refuse: Run, hybrid: Path) -> None:
    lines = run("keys", hybrid, "--format", "tree", "--levels", "1").splitlines()
    elements = {line.split()[0]: line.split()[1] for line in lines[:-1]}
    assert elements["queries"] == "834"
    assert set(elements) == {name.split(".")[0] for name in state(hybrid)}
    assert "--levels is for --format tree" in refuse("keys", hybrid, "--levels", "1")


def test_keys_as_json(run: Run, hybrid: Path) -> None:
    rows = json.loads(run("keys", hybrid, "level_embed", "--format", "json"))
    assert rows == [
        {"name": "level_embed", "shape": [4, 32], "dtype": "float32", "elements": 128, "bytes": 512}
    ]


def test_units(run: Run, hybrid: Path, tmp_path: Path) -> None:
    out = run("units", hybrid, "queries.content", "--percent", "5,10", "--repeats", 2, "-o",
              tmp_path / "v")  # fmt: skip
    paths = sorted((tmp_path / "v").glob("*.safetensors"))
    assert [path.stem for path in paths] == [
        "queries.content-10pct-r0", "queries.content-10pct-r1",
        "queries.content-5pct-r0", "queries.content-5pct-r1",
    ]  # fmt: skip
    assert len(out.splitlines()) == 4
    assert changed(hybrid, paths[0]) == {"queries.content": 38}
    assert changed(hybrid, paths[2]) == {"queries.content": 19}
    assert changed(paths[0], paths[1])
    assert all('"units"' in run("meta", path, "--receipt") for path in paths)


def test_one_variant_alone_goes_to_the_file_that_is_named(
    run: Run, refuse: Run, hybrid: Path, tmp_path: Path
) -> None:
    heads = ("heads", hybrid, "decoder.layers.0.self_attn")
    file = tmp_path / "without.safetensors"
    run(*heads, "--heads", 0, "-o", file)
    assert set(changed(hybrid, file)) == {"decoder.layers.0.self_attn.out_proj.weight"}
    assert '"heads"' in run("meta", file, "--receipt")
    named = tmp_path / "all.safetensors"
    assert "named as a file, for 4 variants; give a folder" in refuse(*heads, "--each", "-o", named)
    assert "give a name with .safetensors" in refuse(
        *heads, "--heads", 0, "-o", tmp_path / "without.pth"
    )
    assert list(tmp_path.iterdir()) == [file]
    named.mkdir()  # a folder that is there is one, whatever its name
    run(*heads, "--each", "-o", named)
    assert len(list(named.iterdir())) == 4


def test_heads_of_chosen_layers(run: Run, hybrid: Path, tmp_path: Path) -> None:
    run("heads", hybrid, "decoder.layers.{layer}.self_attn", "--heads", "0,3", "--layers", "1-2",
        "-o", tmp_path)  # fmt: skip
    (path,) = tmp_path.glob("*.safetensors")
    assert path.stem == "decoder.layers.1-2.self_attn-head0,3"
    # Two of four heads own half of the 32 columns of each output projection.
    name = "decoder.layers.{}.self_attn.out_proj.weight"
    assert changed(hybrid, path) == {name.format(1): 512, name.format(2): 512}
    weight = state(path)[name.format(1)]
    assert not weight[:, [0, 7, 24, 31]].any()
    assert weight[:, 8:24].all()


def test_heads_one_by_one_and_at_random(run: Run, hybrid: Path, tmp_path: Path) -> None:
    run("heads", hybrid, "backbone.stage3.0.attention1", "--each", "-o", tmp_path / "each")
    assert len(list((tmp_path / "each").glob("*.safetensors"))) == 4
    said = json.loads(
        run("heads", hybrid, "**.cross_attn", "--percent", 50, "--repeats", 3, "--seed", 7,
            "-o", tmp_path / "drawn", "--json")
    )  # fmt: skip
    assert len(said) == 3
    assert all(Path(one["path"]).is_file() for one in said)
    assert said[0]["elements"] == 3 * 512
    assert said[0]["ablation"]["kind"] == "heads"


def test_component(run: Run, hybrid: Path, tmp_path: Path) -> None:
    run("component", hybrid, "backbone.csi", "level_embed", "-o", tmp_path / "x.safetensors")
    cut = state(tmp_path / "x.safetensors")
    zero = {name for name, tensor in cut.items() if not tensor.any()}
    assert {"level_embed", "backbone.csi.weight", "backbone.csi.align.weight"} <= zero
    assert changed(hybrid, tmp_path / "x.safetensors").keys() <= {
        name for name in cut if name.startswith(("backbone.csi.", "level_embed"))
    }


def test_layers(run: Run, hybrid: Path, tmp_path: Path) -> None:
    run("layers", hybrid, "--base", "decoder.layers", "--part", "ffn", "--mode", "backward",
        "-o", tmp_path)  # fmt: skip
    stems = {path.stem for path in tmp_path.glob("*.safetensors")}
    assert stems == {f"decoder.layers.{n}.ffn" for n in ("0-2", "1-2", "2")}


def test_swap_and_eval_what_was_swapped(run: Run, hybrid: Path, tmp_path: Path) -> None:
    without = tmp_path / "no-csi.safetensors"
    printed = run("swap", hybrid, "csi=off", "-o", without)
    assert ["dropped", "in", "all", "4", "608"] in [line.split() for line in printed.splitlines()]
    assert "the output changes: scores and boxes by up to" in printed
    printed = run("swap", without, "csi=on", "-o", tmp_path / "again.safetensors")
    assert "the output is unchanged" in printed
    receipt = json.loads(run("meta", without, "--receipt"))
    assert receipt["swap"] == {"switches": ["csi=off"], "init": "identity", "seed": 0}
    assert receipt["base"]["sha256"] == hashlib.sha256(hybrid.read_bytes()).hexdigest()
    report = json.loads(
        run("swap", without, "csi=on", "-o", tmp_path / "json.safetensors", "--json")
    )
    assert report["output_difference"] == 0.0
    assert report["new"].keys() == state(hybrid).keys() - state(without).keys()
    assert "COCO metrics" in run("eval", without, "--shapes", "--limit", 1)


def test_convert_and_eval_what_was_converted(run: Run, hybrid: Path, tmp_path: Path) -> None:
    printed = run("convert", hybrid, "-o", tmp_path / "ours.pth")
    assert printed == f"{tmp_path / 'ours.pth'}  0 of {len(state(hybrid))} tensors renamed\n"
    assert "COCO metrics" in run("eval", tmp_path / "ours.pth", "--shapes", "--limit", 1)


def test_graft(run: Run, refuse: Run, hybrid: Path, tmp_path: Path) -> None:
    without, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    run("component", hybrid, "neck", "-o", without)
    lines = run("graft", without, "--from", hybrid, "--parts", "neck", "-o", target).splitlines()
    count = sum(name.startswith("neck.") for name in state(hybrid))
    assert lines[0] == f"neck: {count} of {count} tensors loaded"
    assert changed(hybrid, target) == {}
    receipt = json.loads(run("meta", target, "--receipt"))
    assert receipt["base"]["path"] == str(without)
    assert receipt["graft"]["from"]["sha256"] == hashlib.sha256(hybrid.read_bytes()).hexdigest()
    assert receipt["graft"]["tensors"] == count
    run("swap", hybrid, "d_model=48", "-o", tmp_path / "wide.safetensors")
    said = refuse(
        "graft", tmp_path / "wide.safetensors", "--from", hybrid, "-o", tmp_path / "c.safetensors"
    )
    assert "of another shape in" in said
    assert "give --skip-mismatched" in said
    assert not (tmp_path / "c.safetensors").exists()
    printed = run("graft", tmp_path / "wide.safetensors", "--from", hybrid, "--skip-mismatched",
                  "-o", tmp_path / "c.safetensors")  # fmt: skip
    assert "left out, of another shape" in printed


def test_train_from_the_weights_of_a_checkpoint(
    run: Run, refuse: Run, hybrid: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "model: {preset: tiny, image_size: 96, widths: [16, 32, 32, 32], d_model: 32, "
        "queries: 12}\n"
        "data: {kind: shapes, train: 2, val: 1}\n"
        "training: {epochs: 1, batch_size: 2, lr: 1.0e-12, weight_decay: 0.0}\n"
    )
    run("train", recipe, "-o", tmp_path / "run", "--init", hybrid)
    one, other = state(hybrid), state(tmp_path / "run" / "model.safetensors")
    assert all(torch.allclose(one[name], other[name], atol=1e-9) for name in one)
    origin = json.loads((tmp_path / "run" / "origin.json").read_text())
    assert origin["path"] == str(hybrid)
    assert origin["sha256"] == hashlib.sha256(hybrid.read_bytes()).hexdigest()
    latest = torch.load(tmp_path / "run" / "latest.pth", weights_only=True)
    assert latest["origin"] == origin
    run("train", recipe, "-o", tmp_path / "run", "--resume", "--set", "training.epochs=2")
    with safetensors.safe_open(tmp_path / "run" / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["origin"]) == origin
    said = refuse("train", recipe, "--init", hybrid, "--set", "model.csi=false")
    assert "has csi True and the recipe False; change the recipe by --set model.csi=" in said
    assert "give one of them" in refuse("train", recipe, "--init", hybrid, "--resume")


def test_demo(run: Run, tmp_path: Path) -> None:
    printed = run("demo", "--budget", "60 passes", "-o", tmp_path / "demo")
    assert "  backbone  255,066 elements" in printed
    text = (tmp_path / "demo" / "report" / "results.json").read_text()
    ResultsFile.model_validate_json(text)
    names = set(json.loads(text)["variants"])
    assert {"unmodified", "backbone"} <= names
    said = (tmp_path / "demo" / "report" / "sentences.md").read_text(encoding="utf-8")
    short, first, *_ = said.splitlines()
    assert first.startswith("* Unmodified, the detector has an AP of ")
    assert all(line in printed for line in said.splitlines()[1:])
    assert printed.splitlines()[-2:] == [
        short.removeprefix("* "), f"report: {tmp_path / 'demo' / 'report' / 'report.html'}"
    ]  # fmt: skip


def test_eval_on_coco_files_prints_all_tables(
    run: Run, hybrid: Path, coco: tuple[Path, Path]
) -> None:
    out = run("eval", hybrid, "--annotations", coco[0], "--images", coco[1])
    for part in ("small: COCO metrics", "AP75", "F1 of matched pairs", "per class", "match rate"):
        assert part in out
    assert "Deep Dissect; blind to misses" in out


def test_eval_of_variants_and_its_files(
    run: Run, hybrid: Path, coco: tuple[Path, Path], tmp_path: Path
) -> None:
    run("component", hybrid, "heads.main.class_head", "-o", tmp_path / "v" / "cut.safetensors")
    data = ("--annotations", coco[0], "--images", coco[1])
    variant = tmp_path / "v" / "cut.safetensors"
    out = run("eval", hybrid, variant, *data, "-o", tmp_path / "out")
    assert out.splitlines()[1].startswith("intervals are of changes, over images")
    assert out.splitlines()[2].startswith("small finds next to nothing (AP 0.0")  # untrained
    assert out.splitlines()[3].split()[:3] == ["variant", "AP", "Δ"]
    files = {path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".parquet"}
    assert files == {
        "results.json", "table.md", "table.csv", "table.tex", "changes.csv", "classes.csv",
        "classes.tex", "per_class", "figure.svg", "figure.png", "figure.pdf", "curves.svg",
        "curves.png", "curves.pdf", "confusion", "changes",
    }  # fmt: skip
    tables = sorted((tmp_path / "out" / "per_class").iterdir())
    assert [path.suffix for path in tables] == [".csv", ".tex"] * 2
    assert r"\toprule" in tables[1].read_text()
    assert r"\toprule" in (tmp_path / "out" / "classes.tex").read_text()
    results = json.loads((tmp_path / "out" / "results.json").read_text())["variants"]
    assert results["cut"]["kind"] == "component"
    assert (
        results["cut"]["thresholds"]["calibrated"] == results["small"]["thresholds"]["calibrated"]
    )
    assert results["cut"]["thresholds"]["calibrated_here"] is False


def test_eval_of_several_tells_images_that_are_copies(
    ablate: Ablate, hybrid: Path, coco: tuple[Path, Path], tmp_path: Path
) -> None:
    run = tmp_path / "again.safetensors"
    run.write_bytes(hybrid.read_bytes())
    one = min(coco[1].glob("*.png")).read_bytes()
    for path in coco[1].glob("*.png"):
        (tmp_path / path.name).write_bytes(one)
    data = ("--annotations", coco[0], "--images", tmp_path)
    told = "images are the same files as others"
    assert told in ablate("eval", hybrid, run, *data).err
    assert told not in ablate("eval", hybrid, run, *data, "--cluster", "(.)").err
    assert told not in ablate("eval", hybrid, *data).err


def test_eval_as_json_is_json_and_nothing_else(
    run: Run, hybrid: Path, coco: tuple[Path, Path]
) -> None:
    data = ("--annotations", coco[0], "--images", coco[1], "--limit", 2)
    results = json.loads(run("eval", hybrid, *data, "--json"))["variants"]
    assert results["small"]["counts"]["images"] == 2


# --- train


def test_train_and_eval_what_was_trained(run: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: {preset: tiny, image_size: 64, widths: [16, 32, 16, 16], d_model: 32, queries: 8}\n"
        "data: {kind: shapes, train: 4, val: 2}\n"
        "training: {epochs: 2, batch_size: 2}\n"
    )
    out = run("train", recipe, "-o", tmp_path / "run", "--set", "training.lr=0.001", "--gradients")
    assert "epoch 2/2  loss" in out
    assert "best weights:" in out
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert len(history["train_loss"]) == 2
    assert "lr: 0.001" in (tmp_path / "run" / "recipe.yaml").read_text()
    for name in ("model.safetensors", "best.pth", "latest.pth"):
        assert "COCO metrics" in run("eval", tmp_path / "run" / name, "--shapes", "--limit", 1)
    summary = (tmp_path / "run" / "gradients" / "summary.txt").read_text()
    assert "4 steps" in summary
    run("train", recipe, "-o", tmp_path / "unwatched", "--set", "training.lr=0.001")
    one, other = (tmp_path / run / "model.safetensors" for run in ("run", "unwatched"))
    assert one.read_bytes() == other.read_bytes()


def test_integers_are_left_and_never_all_that_is_cut(run: Run, refuse: Run, tmp_path: Path) -> None:
    """Counters of batches, such as batch normalization has beside its weights."""
    base = tmp_path / "base.pth"
    counter = torch.tensor(7)
    torch.save({"bn.weight": torch.ones(10), "bn.num_batches_tracked": counter}, base)
    target = tmp_path / "cut.pth"
    for words in (("component", "-o", target), ("units", "--percent", 50, "-o", tmp_path / "u")):
        said = refuse(words[0], base, "bn.num_batches_tracked", *words[1:])
        assert "bn.num_batches_tracked holds int64; only floating tensors can be cut" in said
        run(words[0], base, "bn", *words[1:])
    (units,) = (tmp_path / "u").glob("*.pth")
    assert changed(base, target) == {"bn.weight": 10}
    assert changed(base, units) == {"bn.weight": 5}


def test_a_part_with_weight_normalization_keeps_its_direction(run: Run, tmp_path: Path) -> None:
    """Which is divided by its norm; the magnitude at zero makes the weight zero."""
    base, own = tmp_path / "base.pth", "layers.0.ffn"
    tensors = {"weight_g": torch.ones(4, 1), "weight_v": torch.ones(4, 3), "bias": torch.ones(4)}
    torch.save({f"{own}.{name}": tensor for name, tensor in tensors.items()}, base)
    run("component", base, own, "-o", tmp_path / "a.pth")
    run("layers", base, "--base", "layers", "--part", "ffn", "-o", tmp_path / "layers")
    for path in (tmp_path / "a.pth", *(tmp_path / "layers").glob("*.pth")):
        assert changed(base, path) == {f"{own}.weight_g": 4, f"{own}.bias": 4}
    run("component", base, f"{own}.weight_v", "-o", tmp_path / "b.pth")
    assert changed(base, tmp_path / "b.pth") == {f"{own}.weight_v": 12}
