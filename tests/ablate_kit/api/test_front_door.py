"""What ``import ablate_kit as ak`` offers."""

import doctest
import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

import ablate_kit as ak
from ablate_kit.checkpoints import open_checkpoint
from detector.zoo import SHAPES_TINY


@pytest.fixture(scope="module")
def model() -> ak.Model:
    return ak.load(SHAPES_TINY)


def test_importing_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, ablate_kit; heavy = {'torch', 'numpy', 'pandas', 'pydantic', 'typer'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "ablate_kit.open_checkpoint; assert 'torch' not in sys.modules\n"
        "import ablate_kit.models.bridge.official.families; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_is_there_and_says_what_it_is() -> None:
    assert len(ak.__all__) <= 20
    for name in ak.__all__:
        found = getattr(ak, name)
        assert inspect.getdoc(found), name
        if inspect.isfunction(found):
            assert " at 0x" not in str(inspect.signature(found)), name  # which help() shows
        assert name in (ak.__doc__ or ""), name
    assert set(ak.__all__) <= set(dir(ak))
    with pytest.raises(AttributeError, match="no attribute 'swep'"):
        _ = ak.swep


@pytest.mark.parametrize("module", ["api.images", "api.model", "api.evaluation", "api.sweeping"])
def test_examples_do_what_they_say(module: str) -> None:
    found: ModuleType = import_module(f"ablate_kit.{module}")
    result = doctest.testmod(found)
    assert result.attempted
    assert result.failed == 0


def test_a_sweep_from_a_model_to_a_report(model: ak.Model, tmp_path: Path) -> None:
    data = ak.shapes(limit=4)
    cuts = model.heads("decoder.layers.0.self_attn")[:2] + model.modules("backbone.csi")
    result = ak.sweep(model, data, cuts, output=tmp_path / "run", resamples=50)
    table = result.table()
    assert list(table.index) == ["unmodified", *(cut.name for cut in cuts)]
    assert table["AP_change"].dtype == np.float64
    ap = table["AP"]
    assert np.allclose(table["AP_change"][1:], ap[1:] - ap["unmodified"], atol=1e-12)
    page = result.report().read_text()
    assert "backbone.csi" in page
    assert "ablate_kit.sweep in Python" in page
    assert f"torch {torch.__version__}" in page
    # The same run again: nothing is left to do, and the numbers are those of a run in memory.
    again = ak.sweep(model, data, cuts, output=tmp_path / "run", resamples=50)
    memory = ak.sweep(model, data, cuts, resamples=50, replay=False)
    assert again.table().equals(table)
    assert memory.table().equals(table)
    with pytest.raises(ak.UserError, match="without output keeps nothing"):
        memory.report()
    with pytest.raises(ak.UserError, match="is a sweep of other images or annotations"):
        ak.sweep(model, ak.shapes(limit=3), cuts, output=tmp_path / "run")


def test_progress_is_shown_where_it_is_asked_for(
    model: ak.Model,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("EVERY", "_LONG"):  # a line of the log for each piece
        monkeypatch.setattr(f"ablate_kit.progress_bars.{name}", 0.0)
    data, cuts = ak.shapes(limit=2), model.modules("backbone.csi")
    ak.sweep(model, data, cuts, resamples=0)
    assert capsys.readouterr().err == ""
    with pytest.raises(ak.UserError, match="progress is of type list; expected True, False or"):
        ak.sweep(model, data, cuts, resamples=0, progress=[])  # type: ignore[arg-type]
    ak.sweep(model, data, cuts, resamples=0, progress=True)
    assert "1 of 1 batches, 100%" in capsys.readouterr().err
    first = ak.study(model, data, budget="6 passes", output=tmp_path / "study", progress=True)
    assert "1 of 1 batches, 100%" in capsys.readouterr().err
    assert first.report
    recipe = tmp_path / "study" / "recipe.yaml"
    ak.run_recipe(recipe, tmp_path / "again", progress=True)
    assert "100%" in capsys.readouterr().err


def test_what_is_printed_of_a_value_is_short(model: ak.Model) -> None:
    data = ak.shapes(limit=2)
    result = ak.sweep(model, data, model.modules("neck"))
    assert repr(data) == "<Images: shapes, limit=2; 2 images>"
    assert repr(model).endswith("parameters, on cpu>")
    assert repr(result).startswith("<SweepResult: 1 ablation on 2 images")
    assert len(repr(result)) < 200


def test_without_gives_the_bytes_back_and_write_makes_the_copy(
    model: ak.Model, tmp_path: Path
) -> None:
    (cut,) = model.ablations("component", pattern=["backbone.csi"])
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    with model.without(cut) as module:
        cut_state = {name: value.clone() for name, value in module.state_dict().items()}
    assert all(torch.equal(before[k], v) for k, v in model.module.state_dict().items())
    (path,) = model.write(cut, tmp_path / "cut")
    copy = ak.load(path).module.state_dict()
    assert all(torch.equal(cut_state[name], value) for name, value in copy.items())
    assert ak.diff(SHAPES_TINY, path, by="digests").differs
    with open_checkpoint(path) as file:
        assert len(file.tensors) == len(before)


def test_a_recipe_and_the_same_from_python(model: ak.Model, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{checkpoint: {SHAPES_TINY}}}\n"
        "data: {kind: shapes, limit: 3}\n"
        "ablations: [{kind: modules, pattern: [backbone.csi]}]\n"
        "evaluation: {resamples: 20}\n"
    )
    one = ak.run_recipe(recipe, tmp_path / "run")
    other = ak.sweep(model, ak.shapes(limit=3), model.modules("backbone.csi"), resamples=20)
    assert one.table().equals(other.table())


def test_a_file_of_perfect_detections(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    boxes = [[2, 3, 10, 12], [20, 5, 9, 9]]
    row = {"image_id": 1, "category_id": 5}
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 5, "name": "bolt"}],
        "annotations": [
            {**row, "id": i, "bbox": box, "area": box[2] * box[3]} for i, box in enumerate(boxes, 1)
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    found = [{**row, "bbox": box, "score": 0.9} for box in boxes]
    (tmp_path / "perfect.json").write_text(json.dumps(found))
    result = ak.score(tmp_path / "perfect.json", ak.coco(tmp_path / "truth.json", tmp_path))
    assert result.name == "perfect"
    assert result.evaluation.overall["AP"] == 1
    assert len(result.detections) == 2


def test_what_may_not_be_meant_is_said(model: ak.Model, tmp_path: Path) -> None:
    """As the commands say it: a class that the model lacks would be 0 without a word."""
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    row = {"image_id": 1, "bbox": [2, 3, 10, 12], "area": 120}
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": model.classes[0]}, {"id": 2, "name": "bolt"}],
        "annotations": [{**row, "id": 1, "category_id": 1}, {**row, "id": 2, "category_id": 2}],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    data = ak.coco(path, tmp_path)
    assert any('"bolt"' in note for note in ak.sweep(model, data, [], resamples=0).notes)
    with pytest.warns(UserWarning, match="bolt"):
        ak.evaluate(model, data)
    flat = {"image_id": 1, "category_id": 1, "bbox": [2, 3, 0, 12], "score": 0.5}
    (tmp_path / "flat.json").write_text(json.dumps([flat]))
    with pytest.warns(UserWarning, match="without area"):
        ak.score(tmp_path / "flat.json", data)
    path.write_text(json.dumps(truth | {"annotations": []}))
    with pytest.raises(ak.UserError, match="nothing to score"):
        ak.sweep(model, ak.coco(path, tmp_path), [])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: model.heads("decoder.layer.*.self_attn"), "did you mean"),
        (lambda model: model.ablations("head", pattern="x"), 'kind is "head"; expected'),
        (lambda model: model.ablations("heads", patern="x"), 'unknown key'),
        (lambda model: model.ablations("heads-greedy", pattern="x"), "sweep a recipe"),
        (lambda _: ak.shapes(limit=0), "limit"),
        (lambda _: ak.coco("a.json", "b", difficult="maybe"), "difficult"),
        (lambda _: ak.load("absent.pth"), "absent.pth"),
        (lambda _: ak.diff(SHAPES_TINY, SHAPES_TINY, by="digest"), 'did you mean "digests"'),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(model: ak.Model, call: object, words: str) -> None:
    with pytest.raises(ak.UserError, match=words) as error:
        call(model)
    assert "\n" not in str(error.value)


def test_numbers_do_not_depend_on_what_holds_around_a_sweep(model: ak.Model) -> None:
    data, cuts = ak.shapes(limit=2), model.heads("decoder.layers.1.self_attn")[:1]
    expected = ak.sweep(model, data, cuts, resamples=0)
    around = [
        torch.autocast("cpu", torch.bfloat16),
        torch.inference_mode(),
        torch.enable_grad(),
        torch.device("meta"),
    ]
    for block in around:
        with block:
            found = ak.sweep(model, data, cuts, resamples=0)
        assert found.notes == expected.notes == []
        assert found.table().equals(expected.table()), block
    torch.set_default_dtype(torch.float64)
    try:
        opened = ak.load(SHAPES_TINY)
        assert opened.module.state_dict()["level_embed"].dtype == torch.float32
        assert ak.sweep(opened, data, cuts, resamples=0).table().equals(expected.table())
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        opened = ak.load(SHAPES_TINY)
    with opened.without(cuts[0]):
        pass


def test_a_run_is_of_the_weights_that_it_names(tmp_path: Path) -> None:
    model, data = ak.load(SHAPES_TINY), ak.shapes(limit=2)
    cut, other = model.heads("decoder.layers.1.self_attn")[:2]
    with model.without(cut):
        assert ak.sweep(model, data, [other], resamples=0).results[0].evaluation
        for run in (
            lambda: ak.sweep(model, data, [other], output=tmp_path / "run"),
            lambda: ak.study(model, data, output=tmp_path / "study", budget="20 passes"),
            lambda: model.write(other, tmp_path / "copies"),
        ):
            with pytest.raises(ak.UserError, match=r"out_proj.weight is not what it is in .*model"):
                run()
    ak.sweep(model, data, [other], output=tmp_path / "run", resamples=0)


def test_mistakes_in_python_are_told_in_a_line(model: ak.Model) -> None:
    data, cuts = ak.shapes(limit=2), model.heads("decoder.layers.1.self_attn")[:1]
    for wrong, message in {
        "batch_size": "evaluation: batch_size: input should be a valid integer",
        "resamples": "evaluation: resamples: input should be a valid integer",
        "adjust": "evaluation: adjust: input should be 'family' or 'fdr'",
        "seed": "evaluation: seed",
        "margin": "evaluation: margin",
    }.items():
        for call in (ak.sweep, ak.study):
            if call is ak.sweep or wrong in ("batch_size", "margin"):
                given = {wrong: "many"} | ({"output": "nowhere"} if call is ak.study else {})
                cut = () if call is ak.study else (cuts,)
                with pytest.raises(ak.UserError, match=message):
                    call(model, data, *cut, **given)
    for given, message in (
        ((model, data, ["backbone"]), 'not "backbone"'),
        ((model, data, [cuts]), "not a list"),
        ((model, "val2017", cuts), 'ak.shapes gives, and not "val2017"'),
        ((SHAPES_TINY, data, cuts), "ak.load gives, and not a PosixPath"),
    ):
        with pytest.raises(ak.UserError, match=message):
            ak.sweep(*given)
    assert len(ak.sweep(model, data, cuts[0], resamples=0).results) == 2
    with pytest.raises(ak.UserError, match='cannot use the device "gpu"'):
        ak.load(SHAPES_TINY, device="gpu")


def test_kinds_that_python_does_not_make_are_refused(model: ak.Model) -> None:
    for kind, settings in {
        "pairs": {},
        "shapley": {},
        "joined": {"members": ["a"]},
        "patch": {"donor": str(SHAPES_TINY)},
        "ranked": {},
    }.items():
        with pytest.raises(ak.UserError, match="sweep a recipe"):
            model.ablations(kind, **settings)


def test_controls_are_made_in_python_too(model: ak.Model) -> None:
    made = model.ablations("heads", pattern="decoder.layers.1.self_attn", null_cuts=2)
    assert [one.kind for one in made[:4]] == ["heads", "control", "control", "heads"]
    found = ak.sweep(model, ak.shapes(limit=2), made[:3], resamples=0)
    assert len(found.results) == 4
