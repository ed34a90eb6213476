"""Classes that the model and the data call by other names."""

import json

import pytest
import yaml

from detector.data.shapes import Shapes

NAMES = list(Shapes(1).classes)


@pytest.fixture
def renamed(coco, tmp_path):
    """The data set with its first class capitalized."""
    dataset = json.loads(coco[0].read_text())
    dataset["categories"][0]["name"] = NAMES[0].capitalize()
    path = tmp_path / "renamed.json"
    path.write_text(json.dumps(dataset))
    return path


@pytest.fixture
def names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\n".join([NAMES[0].capitalize(), *NAMES[1:]]))
    return path


@pytest.fixture
def printed(ablate):
    """What a command prints on both streams."""

    def printed(*arguments):
        found = ablate(*arguments)
        assert not found.code
        return found

    return printed


def test_eval_names_what_the_model_does_not_have(printed, refuse, hybrid, coco, renamed, names):
    command = ("eval", hybrid, "--images", coco[1], "--resamples", "0", "--json")
    expected = json.loads(printed(*command, "--annotations", coco[0]).out)["variants"]["small"]
    partly = printed(*command, "--annotations", renamed)
    told = f'"{NAMES[0].capitalize()}" (did you mean the model\'s "{NAMES[0]}"?)'
    assert partly.err.count("note: ") == 1
    assert told in partly.err
    by_hand = printed(*command, "--annotations", renamed, "--class-names", names)
    assert by_hand.err == ""
    found = json.loads(by_hand.out)["variants"]["small"]
    assert found["overall"] == expected["overall"]
    assert list(found["per_class"].values()) == list(expected["per_class"].values())
    names.write_text("a\nb\n")
    assert f"2 class names for {hybrid}, which has 8 classes (disc, square, triangle, ... 8" in (
        refuse(*command, "--annotations", renamed, "--class-names", names)
    )


def test_models_without_names(printed, refuse, folders, coco, tmp_path):
    """``LABEL_0`` is how transformers calls a class that nobody named."""
    folder = tmp_path / "unnamed"
    folder.mkdir()
    for file in folders("detr").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": {i: f"LABEL_{i}" for i in range(3)}, "label2id": {}}
    (folder / "config.json").write_text(json.dumps(config))
    (tmp_path / "names.txt").write_text("disc\nsquare\nstar\n")
    data = ("--annotations", coco[0], "--images", coco[1], "--resamples", "0", "--json")
    assert "no name in common; --class-names FILE" in refuse("eval", folder, *data)
    named = printed("eval", folder, *data, "--class-names", tmp_path / "names.txt").out
    expected = printed("eval", folders("detr"), *data).out
    named, expected = (json.loads(one)["variants"] for one in (named, expected))
    assert named["unnamed"]["per_class"] == expected["detr"]["per_class"]


def test_sweep_and_predict_take_the_names(printed, hybrid, coco, renamed, names, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    values = {
        "model": {"checkpoint": str(hybrid), "class_names": str(names)},
        "data": {"kind": "coco", "annotations": str(renamed), "images": str(coco[1])},
        "ablations": [{"kind": "component", "pattern": ["encoder"]}],
        "evaluation": {"batch_size": 2, "resamples": 20},
    }
    recipe.write_text(yaml.safe_dump(values))
    assert "not among" not in printed("sweep", recipe, "-o", tmp_path / "named").err
    inputs = json.loads((tmp_path / "named" / "inputs.json").read_text())
    assert inputs["class_names"] == ", ".join(names.read_text().split("\n"))
    del values["model"]["class_names"]
    recipe.write_text(yaml.safe_dump(values))
    assert "1 of the data set's 8 classes" in printed("sweep", recipe, "--dry-run").err
    image = next(coco[1].glob("*.png"))
    printed("predict", hybrid, image, "-o", tmp_path / "seen", "--class-names", names)
    seen = json.loads((tmp_path / "seen" / "images.json").read_text())
    assert [one["name"] for one in seen["categories"]] == names.read_text().split("\n")


def test_options_that_would_do_nothing_are_refused(refuse, coco, names, tmp_path):
    (tmp_path / "dt.json").write_text("[]")
    command = ("score", tmp_path / "dt.json", "--annotations", coco[0], "--class-names", names)
    assert "--class-names names the class numbers of YOLO's text files" in refuse(*command)
    (tmp_path / "recipe.yaml").write_text("")
    command = ("gradients", tmp_path / "recipe.yaml", "--class-names", names, "-o", tmp_path / "g")
    assert "--class-names and --trust-remote-code go with a checkpoint" in refuse(*command)
