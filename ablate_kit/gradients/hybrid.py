"""The hybrid detector's training, by a recipe or from a checkpoint's weights."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ablate_kit.errors import UserError, did_you_mean
from detector.data.dataset import Dataset
from detector.data.letterbox import GRAY, MEAN_COLOR
from detector.data.training import Batch, EpochSampler, TrainingSet, loader
from detector.network.model import HybridDetector
from detector.training.criterion import LossSettings, criterion
from detector.training.optim import offset_parameters, parameter_groups
from detector.training.recipe import Training

BETAS, EPSILON = (0.9, 0.999), 1e-6  # as in the trainer


class HybridTraining:
    """Batches, loss and optimizer as the trainer makes them, at a constant learning rate."""

    def __init__(
        self,
        model: HybridDetector,
        dataset: Dataset,
        options: Training,
        losses: LossSettings,
        multipliers: dict[str, float],
        device: str = "cpu",
    ) -> None:
        self.options = options
        self.settings = losses
        self.accumulate = options.accumulate
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.frozen = [self._freeze(name) for name in options.freeze]
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, options.lr, options.weight_decay, multipliers),
            betas=BETAS,
            eps=EPSILON,
        )
        self.offsets = offset_parameters(self.model)
        self.noise = torch.Generator(self.device)
        fill = MEAN_COLOR if model.config.pad_color == "mean" else GRAY
        self.sampler = EpochSampler(len(dataset), seed=options.seed)
        self.loader = loader(
            TrainingSet(
                dataset, model.config.image_size, fill, flip=options.flip, seed=options.seed
            ),
            self.sampler,
            batch_size=options.batch_size,
            workers=options.workers,
            drop_last=len(dataset) >= options.batch_size,
            pin_memory=self.device.type == "cuda",
        )

    def batches(self) -> Iterator[Batch]:
        epoch = 0
        while True:
            self.sampler.set_epoch(epoch)
            for module in self.frozen:
                module.eval()
            yield from self.loader
            epoch += 1

    def losses(self, batch: Batch, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        images, targets = batch
        for target in targets:
            target["boxes"] = target["boxes"].to(self.device)
            target["labels"] = target["labels"].to(self.device)
        self.noise.manual_seed(self.options.seed * 1_000_003 + index)
        out = self.model(images.to(self.device), targets, self.noise)
        terms = dict(criterion(out, targets, self.settings))
        return terms.pop("loss"), terms

    def clip(self) -> None:
        nn.utils.clip_grad_norm_(self.offsets, self.options.clip_offsets)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)

    def _freeze(self, name: str) -> nn.Module:
        modules = dict(self.model.named_modules())
        if name not in modules:
            raise UserError(
                f'training.freeze names no module "{name}" of the detector'
                f"{did_you_mean(name, [known for known in modules if known])}"
            )
        return modules[name].requires_grad_(False)
