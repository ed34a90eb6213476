"""Recipes are validated, and overrides are checked like the file."""

from pathlib import Path

import pytest

from detector.errors import UserError
from detector.training.recipe import load_recipe

TEXT = """
model:
  preset: tiny
  queries: 12
data:
  kind: shapes
  train: 8
training:
  epochs: 3
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT)
    return path


def test_what_is_given_and_what_is_default(recipe: Path) -> None:
    loaded = load_recipe(recipe, ["training.lr=0.002", "training.losses={giou: 1.0}"])
    assert loaded.training.epochs == 3
    assert loaded.training.batch_size == 8
    assert loaded.training.lr == 0.002
    assert loaded.loss_settings().giou == 1.0
    config = loaded.config(["a", "b"])
    assert (config.queries, config.num_classes, config.d_model) == (12, 2, 64)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", 'unknown key "training.epoch"; did you mean "epochs"'),
        ("traning.epochs=3", 'unknown key "traning"; did you mean "training"'),
        ("data.trian=3", 'unknown key "data.trian"; did you mean "train"'),
        ("training.epochs=0", "training.epochs: input should be greater than or equal to 1"),
        ("training.epochs=many", "training.epochs: input should be a valid integer"),
        ("training.lr=-1", "training.lr: input should be greater than 0"),
        ("data.kind=vok", "data: input tag 'vok' found using 'kind' does not match"),
        ("training.losses={gio: 1.0}", 'unknown key "training.losses.gio"; did you mean "giou"'),
        ("training.multipliers={x: 1.0}", 'unknown key "training.multipliers.x"'),
        ("training", 'cannot read --set "training"; expected KEY.KEY=VALUE'),
        ("a..b=1", "expected KEY.KEY=VALUE"),
        ("training.lr=[", "as YAML"),
        ("training.lr.x=1", '"lr" is not a section'),
    ],
)
def test_mistakes_are_named(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe(recipe, ["training.lr=0.1", override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_model_settings_are_named(recipe: Path) -> None:
    loaded = load_recipe(recipe, ["model.depht=3"])
    with pytest.raises(UserError, match='no setting "depht"; did you mean "depths"'):
        loaded.config(["a"])


def test_losses_of_a_head_that_is_not_there_are_refused(recipe: Path) -> None:
    loaded = load_recipe(recipe, ["training.losses={iou: 2.0}"])
    with pytest.raises(UserError, match=r"training.losses.iou needs the IoU head"):
        loaded.config(["a"])
    assert (
        load_recipe(
            recipe, ["training.losses={iou: 2.0, quality_predicted: 0.5}", "model.iou_head=true"]
        )
        .config(["a"])
        .iou_head
    )


def test_the_number_of_classes_is_that_of_the_data(recipe: Path) -> None:
    loaded = load_recipe(recipe, ["model.num_classes=3"])
    with pytest.raises(UserError, match="num_classes is 3; the data has 2 classes"):
        loaded.config(["a", "b"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1, 2]", "holds no recipe"), ("a: [", "is not a YAML file"), ("", "holds no recipe"),
     ("!!python/object/apply:os.system [id]", "is not a YAML file")],
)  # fmt: skip
def test_files_that_are_no_recipe(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_recipe(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no recipe .*nothing\.yaml"):
        load_recipe(tmp_path / "nothing.yaml")


def test_voc_without_a_root_says_how_to_give_it(recipe: Path) -> None:
    recipe.write_text("model: {preset: tiny}\ndata: {kind: voc}")
    with pytest.raises(UserError, match=r"data\.root is not set: give --set data\.root=FOLDER"):
        load_recipe(recipe).data.datasets()


def test_the_recipes_of_the_project_are_valid(repository: Path) -> None:
    paths = sorted((repository / "recipes" / "train").glob("*.yaml"))
    assert paths
    for path in paths:
        assert load_recipe(path).config(["a"] * 20).num_classes == 20, path
