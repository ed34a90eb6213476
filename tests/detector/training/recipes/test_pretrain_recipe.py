"""Pretraining recipes are validated, and what would have no effect is refused."""

import re
from pathlib import Path

import pytest
import yaml

from detector.config import preset
from detector.errors import UserError
from detector.training.recipes.pretrain_recipe import current, load_pretrain_recipe

TEXT = "model: {preset: tiny}\ndata: {kind: shapes, train: 8, val: 4}\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT)
    return path


def test_the_defaults_are_the_thesis_pretraining(recipe: Path, repository: Path) -> None:
    thesis = load_pretrain_recipe(repository / "recipes" / "pretrain" / "mini_imagenet.yaml")
    defaults = load_pretrain_recipe(recipe)
    given = thesis.training.model_copy(update={"workers": 0, "seed": 42})
    assert given == defaults.training
    assert thesis.augmentation == defaults.augmentation
    assert thesis.classifier == defaults.classifier
    config = thesis.config(["a"] * 100)
    assert config.replace(num_classes=20, image_size=480, layer_scale=1.0) == preset("thesis")


@pytest.mark.parametrize(
    ("epoch", "auxiliary", "mixing"),
    [  # of the thesis' 200 epochs
        (0, [0.3, 0.5, 0.5, 0.3], None),
        (9, [0.3, 0.5, 0.5, 0.3], None),
        (10, [0.3, 0.5, 0.5, 0.3], (0.3, 0.3, 0.3)),
        (29, [0.3, 0.5, 0.5, 0.3], (0.3, 0.3, 0.3)),
        (30, [0.3, 0.5, 0.5, 0.3], (0.9, 0.5, 0.9)),
        (59, [0.3, 0.5, 0.5, 0.3], (0.9, 0.5, 0.9)),
        (60, [0.2, 0.4, 0.4, 0.2], (0.9, 0.5, 0.9)),
        (99, [0.2, 0.4, 0.4, 0.2], (0.9, 0.5, 0.9)),
        (100, [0.2, 0.4, 0.4, 0.2], (0.9, 0.6, 1.0)),
        (140, [0.1, 0.2, 0.2, 0.1], (0.9, 0.6, 1.0)),
        (160, [0.1, 0.2, 0.2, 0.1], (0.9, 0.6, 1.1)),
        (179, [0.1, 0.2, 0.2, 0.1], (0.9, 0.6, 1.1)),
        (180, [0.05, 0.1, 0.1, 0.05], (0.9, 0.6, 1.1)),
        (199, [0.05, 0.1, 0.1, 0.05], (0.9, 0.6, 1.1)),
    ],
)
def test_the_schedules_of_the_thesis(
    recipe: Path, epoch: int, auxiliary: list[float], mixing: tuple[float, ...] | None
) -> None:
    options = load_pretrain_recipe(recipe).training
    weights, mixed = (current(s, epoch, 200) for s in (options.auxiliary, options.mixing))
    assert weights is not None
    assert weights.weights == auxiliary
    assert (mixed and (mixed.probability, mixed.mixup, mixed.cutmix)) == mixing


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", 'unknown key "training.epoch"; did you mean "epochs"'),
        ("clasifier.neck=true", 'unknown key "clasifier"; did you mean "classifier"'),
        ("data.trian=3", 'unknown key "data.trian"; did you mean "train"'),
        ("data.kind=folders", 'data: kind is "folders"; expected folder, hugg'),
        ("augmentation.erasing=0.1", 'unknown key "augmentation.erasing"; did you mean "erase"'),
        ("augmentation.val_resize=200", "augmentation: val_resize 200 is below image_size 224"),
        ("augmentation.area=[0.5, 0.2]", "expected the smaller share first"),
        ("augmentation.randaugment=[2, 31]", "randaugment has magnitude 31; at most 30 exist"),
        ("augmentation.color_jitter=[0, 0, 0, 0.6]", "color_jitter turns hues by 0.6"),
        ("augmentation.image_size=32", "image_size: input should be greater than or equal to 64"),
        ("training.ema=1.0", "training.ema: input should be less than 1"),
        ("training.precision=fp8", "training.precision: input should be 'fp32', 'tf32'"),
        ("training.multipliers={transformer: 2}", 'unknown key "training.multipliers.transformer"'),
        ("training.mixing=[{begin: 0, probability: 0.5}]",
         "training.mixing.0: a probability goes with mixup or cutmix"),
        ("training.mixing=[{begin: 0, probability: 0, mixup: 0.2}]", "and 0 with neither"),
        ("training.mixing=[{begin: 0, probabilty: 0.5}]",
         'unknown key "training.mixing.0.probabilty"; did you mean "probability"'),
        ("training.auxiliary=[{begin: 0.5, weights: [1, 1, 1, 1]}, "
         "{begin: 0.5, weights: [1, 1, 1, 1]}]", "expected growing shares of the run"),
        ("training.auxiliary=[{begin: 0, weights: [1, 1]}]", "training.auxiliary.0.weights: list"),
    ],
)  # fmt: skip
def test_mistakes_are_named(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_pretrain_recipe(recipe, [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.depht=[1, 1, 1, 1]", 'unknown key "model.depht"; did you mean "depths"'),
        ("model.queries=10", "model.queries has no effect on the backbone or the neck"),
        ("model.preset=tyni", 'unknown preset "tyni"'),
        ("augmentation.image_size=100", "image_size is 100; expected a multiple of 32"),
    ],
)
def test_models_that_cannot_be_are_named(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=f'^--set "{re.escape(override)}": .*{message}'):
        load_pretrain_recipe(recipe, [override]).config(["a"])


def test_settings_without_effect_are_refused(recipe: Path) -> None:
    with pytest.raises(UserError, match=r"model\.d_model has no effect without classifier\.neck"):
        load_pretrain_recipe(recipe, ["model.d_model=32", "classifier.neck=false"]).config(["a"])
    with pytest.raises(UserError, match=r"classifier\.multi_head: false does not have"):
        load_pretrain_recipe(
            recipe,
            ["classifier.multi_head=false",
             "training.auxiliary=[{begin: 0.0, weights: [1, 1, 1, 1]}]"],
        )  # fmt: skip


def test_folders_without_a_place_say_how_to_give_it(recipe: Path) -> None:
    with pytest.raises(UserError, match=r"data\.val is not set: give --set data\.val=FOLDER"):
        load_pretrain_recipe(recipe, ["data={kind: folder, train: here}"]).data.splits()


@pytest.mark.parametrize("multi_head", [True, False])
def test_a_resolved_recipe_says_the_same(recipe: Path, multi_head: bool) -> None:
    made = load_pretrain_recipe(recipe, [f"classifier.multi_head={str(multi_head).lower()}"])
    recipe.write_text(yaml.safe_dump(made.resolved()))
    assert load_pretrain_recipe(recipe) == made


def test_the_recipes_of_the_project_are_valid(repository: Path) -> None:
    paths = sorted((repository / "recipes" / "pretrain").glob("*.yaml"))
    assert len(paths) == 2
    for path in paths:
        assert load_pretrain_recipe(path).config(["a"] * 20).num_classes == 20, path
