"""Recipes are validated, and overrides are checked like the file."""

from pathlib import Path

import pytest

from detector.config import preset
from detector.errors import UserError
from detector.network import legacy
from detector.training.recipes.train_recipe import load_recipe, parse_recipe

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


OF_CHECKPOINT = "shapes_tiny_smaller"  # a recipe whose network is that of --init


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
        ("data.kind=vok", 'data: kind is "vok"; expected voc, coco'),
        ("training.losses={gio: 1.0}", 'unknown key "training.losses.gio"; did you mean "giou"'),
        ("training.multipliers={x: 1.0}", 'unknown key "training.multipliers.x"'),
        ("training.multipliers={neck: -1.0}", "training.multipliers.neck: input should be greater"),
        ("training.multipliers={neck: 0}", "training.multipliers.neck: input should be greater"),
        ("training.lr=.inf", "training.lr: input should be a finite number"),
        ("training.weight_decay=.nan", "training.weight_decay: input should be a finite number"),
        ("training.color=1.5", "training.color: input should be less than or equal to 1"),
        ("training.crop=-0.1", "training.crop: input should be greater than or equal to 0"),
        ("training.mosaic=often", "training.mosaic: input should be a valid number"),
        ("training.multi_scale=32", "training.multi_scale: input should be a valid list"),
        ("training.mosiac=0.5", 'unknown key "training.mosiac"; did you mean "mosaic"'),
        ("training", 'cannot read --set "training"; expected KEY.KEY=VALUE'),
        ("a..b=1", "expected KEY.KEY=VALUE"),
        ("training.lr=[", "as YAML"),
        ("training.lr.x=1", '"lr" is not a section'),
        *(
            (f"training.multi_scale={sizes}", "expected the smallest and the largest input size")
            for sizes in ("[320]", "[320, 300]", "[320, 630]", "[64, 64]", "[0, 64]")
        ),
        ("training.losses={labels_per: image}", "labels_per is 'image'; expected object or query"),
        ("training.losses={labels: many}", "losses.labels is 'many'; expected a number from 0 on"),
        ("training.losses={giou: -1.0}", "losses.giou is -1.0; expected a number from 0 on"),
        ("training.losses={giou: .nan}", "losses.giou is nan; expected a number from 0 on"),
        ("training.losses={giou: .inf}", "losses.giou is inf; expected a number from 0 on"),
        (
            "training.losses={quality_floor: 1.5}",
            "quality_floor is 1.5; expected a number from 0 to 1",
        ),
        (
            "training.losses={quality_floor: -0.1}",
            "quality_floor is -0.1; expected a number from 0 to 1",
        ),
    ],
)
def test_mistakes_are_named(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe(recipe, ["training.lr=0.1", override])
    assert message in str(error.value)
    assert '--set "' in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line",
    ["losses: {giou: -1}", "losses: {gio: 1}", "multi_scale: [64, 32]", "multipliers: {neck_: 1}"],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {{preset: tiny}}\ndata: {{kind: shapes}}\ntraining:\n  {line}\n")
    with pytest.raises(UserError, match=rf"^{path}:4:\d+: "):
        load_recipe(path)


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("model: {preset: tini}", 17),
        ("model: {preset: tiny, depht: 3}", 30),
        ("model: {preset: tiny, image_size: 100}", 35),
        ("model: {preset: tiny, d_model: wide}", 32),
        ("model: {preset: tiny, d_model: 60, heads: 7}", 32),
        ("model: {preset: tiny, num_classes: 3}", 36),
        ("training: {losses: {iou: 2.0}}", 26),
        ("training: {denoising_warmup_epochs: 4}", 37),
    ],
)
def test_a_mistake_in_the_model_is_told_with_its_line(
    tmp_path: Path, line: str, column: int
) -> None:
    path = tmp_path / "recipe.yaml"
    model = "" if line.startswith("model") else "model: {preset: tiny}\n"
    path.write_text(f"data: {{kind: shapes}}\n{line}\n{model}")
    with pytest.raises(UserError, match=rf"^{path}:2:{column}: "):
        load_recipe(path).config(["a", "b"])


def test_recipes_of_the_same_values_are_the_same_wherever_these_stand(recipe: Path) -> None:
    other = recipe.with_name("other.yaml")
    other.write_text(f"\n\n{recipe.read_text()}")
    assert load_recipe(recipe) == load_recipe(other)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.depht=3"], 'no setting "depht"; did you mean "depths"'),
        (["model.num_classes=3"], "num_classes is 3; the data has 2 classes"),
        (["training.multi_scale=[32, 64]", "model.peak_queries=90", "model.queries=90"],
         r"training\.multi_scale: "),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_is_refused(
    recipe: Path, overrides: list[str], message: str
) -> None:
    loaded = load_recipe(recipe, overrides)
    with pytest.raises(UserError, match=message):
        loaded.config(["a", "b"])


def test_multi_scale_is_every_multiple_of_32_in_its_range(recipe: Path) -> None:
    assert load_recipe(recipe).training.sizes() == ()
    loaded = load_recipe(recipe, ["training.multi_scale=[96, 192]"])
    assert loaded.training.sizes() == (96, 128, 160, 192)
    loaded.config(["a"])


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("losses={iou: 2.0}", "iou_head=true"),
        ("losses={quality_predicted: 0.5}", "iou_head=true"),
        ("losses={objectness: 0.5}", "query_objectness=true"),
        ("losses={denoising_boxes: 2}", "denoising=thesis"),
        ("denoising_warmup_epochs=4", "denoising=contrastive"),
    ],
)
def test_settings_of_a_part_that_is_not_there_are_refused(
    recipe: Path, setting: str, part: str
) -> None:
    name, _, _ = part.partition("=")
    with pytest.raises(UserError, match=f"has no effect without model.{name}"):
        load_recipe(recipe, [f"training.{setting}"]).config(["a"])
    load_recipe(recipe, [f"training.{setting}", f"model.{part}"]).config(["a"])


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


@pytest.mark.parametrize("value", [{1, 2}, b"x", 1j, {(1, 2): 3}], ids=str)
def test_values_of_a_checkpoint_that_are_no_recipe(value: object) -> None:
    with pytest.raises(UserError, match="holds no recipe: its values are not what JSON has"):
        parse_recipe({"model": value}, "best.pth")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no recipe .*nothing\.yaml"):
        load_recipe(tmp_path / "nothing.yaml")


def test_voc_without_a_root_says_how_to_give_it(recipe: Path) -> None:
    recipe.write_text("model: {preset: tiny}\ndata: {kind: voc}")
    with pytest.raises(UserError, match=r"data\.root is not set: give --set data\.root=FOLDER"):
        load_recipe(recipe).data.datasets()


def test_the_network_of_a_checkpoint_is_not_known_without_it(repository: Path) -> None:
    recipe = load_recipe(repository / "recipes" / "train" / f"{OF_CHECKPOINT}.yaml")
    with pytest.raises(UserError, match="ablate train --init"):
        recipe.config(["a"] * 8)


@pytest.mark.parametrize(
    "path",
    sorted(one for one in Path("recipes/train").glob("*.yaml") if one.stem != OF_CHECKPOINT),
    ids=str,
)
def test_the_recipes_that_come_along_can_be_built(path: Path) -> None:
    config = load_recipe(path).config([f"class {i}" for i in range(20)])
    variants = {
        "voc": {},
        "voc_gate_fuse": legacy.GATE_FUSE_VARIANT,
        "voc_denoising": legacy.denoising_variant(),
    }
    if path.stem in variants:
        assert config == preset("thesis").replace(**variants[path.stem])
