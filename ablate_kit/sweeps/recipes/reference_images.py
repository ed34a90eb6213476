"""A running model with images, for ablations that are made from what it computes."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ablate_kit.ablations.name_patterns import to_model_keys
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.inference.batches import batch_sizes, groups, prepared_batches
from ablate_kit.models.inference.detect import inference
from detector.data.dataset import Dataset, limit

IMAGES = 32  # that means are taken over, unless told otherwise


@dataclass(frozen=True)
class ReferenceImages:
    """The unmodified detector on a data set; as ``kinds.kind.Reference``."""

    adapter: Adapter
    dataset: Dataset
    batch_size: int = 8

    @property
    def module(self) -> nn.Module:
        return self.adapter.module

    def names_of(self, tensor: str) -> Sequence[str]:
        return to_model_keys(tensor, (), self.adapter.live_names())

    def run(self, images: int | None) -> None:
        if images is not None and images > len(self.dataset):
            raise UserError(f"{images} reference images; the data set has {len(self.dataset)}")
        some = limit(self.dataset, images or IMAGES)
        sizes = batch_sizes(len(some), self.batch_size)
        with inference(self.module):
            for prepared in prepared_batches(self.adapter, some, sizes):
                for group in groups(prepared):
                    self.adapter.forward(group.inputs)
