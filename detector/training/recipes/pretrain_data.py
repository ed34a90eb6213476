"""The data section of a pretraining recipe."""

from typing import Literal

from detector.data.classification import (
    First,
    HuggingFaceImages,
    ImageFolders,
    LabeledImages,
    ShapeCrops,
)
from detector.errors import UserError
from detector.training.recipes.recipe_file import Count, Natural, Section

Splits = tuple[LabeledImages, LabeledImages]


class FolderData(Section):
    """Two folders, each with one folder of images per class."""

    kind: Literal["folder"]
    train: str | None = None
    val: str | None = None
    train_per_class: Count | None = None  # the first images of each class; null: all
    val_per_class: Count | None = None

    def splits(self) -> Splits:
        for name in ("train", "val"):
            if getattr(self, name) is None:
                raise UserError(f"data.{name} is not set: give --set data.{name}=FOLDER")
        train = ImageFolders(str(self.train))
        val = ImageFolders(str(self.val), train.classes)
        return _first(train, self.train_per_class), _first(val, self.val_per_class)


class HuggingFaceData(Section):
    """A data set of the Hugging Face hub; needs the extra ``imagenet``."""

    kind: Literal["huggingface"]
    name: str = "timm/mini-imagenet"
    train: str = "train"
    val: str = "validation"
    image: str = "image"  # columns
    label: str = "label"
    train_per_class: Count | None = None
    val_per_class: Count | None = None

    def splits(self) -> Splits:
        train = HuggingFaceImages(self.name, self.train, self.image, self.label)
        val = HuggingFaceImages(self.name, self.val, self.image, self.label, train.classes)
        return _first(train, self.train_per_class), _first(val, self.val_per_class)


class ShapeCropsData(Section):
    """Crops of the built-in synthetic data set."""

    kind: Literal["shapes"]
    train: Count = 2000
    val: Count = 400
    seed: Natural = 1

    def splits(self) -> Splits:
        # Splits 0 and 1 are those that detectors train and are evaluated on.
        return ShapeCrops(self.train, self.seed, split=2), ShapeCrops(self.val, self.seed, split=3)


def _first(images: LabeledImages, per_class: int | None) -> LabeledImages:
    return images if per_class is None else First(images, per_class)
