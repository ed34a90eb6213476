"""What ``latest.pth`` and ``best.pth`` hold, and how a run resumes from it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.checkpoint import load_checkpoint
from detector.training.run_folder.resume_check import refuse_other_run
from detector.training.run_folder.run_state import RunState

if TYPE_CHECKING:
    from detector.training.trainer import Trainer


def checkpoint_of(trainer: "Trainer") -> dict[str, Any]:
    """All that a run resumes from. Random numbers follow from the seed and the position."""
    task = trainer.task
    return {
        **trainer.state.to_dict(task.best_name),
        "model": trainer.model.state_dict(),
        **({"ema": trainer.ema.state_dict()} if trainer.ema is not None else {}),
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": {"step": trainer.step},
        "scaler": trainer.precision.scaler.state_dict(),
        **task.about(),
        "classes": list(task.classes),
        "images": len(task.items),
        "data": trainer.data,
        "recipe": json.dumps(task.recipe.resolved()),
        "origin": trainer.origin,
    }


def export_best(trainer: "Trainer") -> None:
    """Writes the weights by themselves, or their average where the run keeps one."""
    ema, state = trainer.ema, trainer.state
    trainer.task.export(
        trainer.files.folder,
        trainer.model.state_dict() if ema is None else ema.average,
        score=state.best,
        epoch=state.epoch,
        is_average=ema is not None,
        origin=trainer.origin,
    )


def restore(trainer: "Trainer", path: Path) -> None:
    """Raises ``UserError`` for a checkpoint of another run, before anything is changed."""
    checkpoint = load_checkpoint(path, trainer.device, trainer.task.kind)
    refuse_other_run(path, checkpoint, trainer.task, trainer.data)
    trainer.model.load_state_dict(checkpoint["model"])
    if trainer.ema is not None:
        trainer.ema.load_state_dict(checkpoint["ema"])
    trainer.optimizer.load_state_dict(checkpoint["optimizer"])
    trainer.precision.scaler.load_state_dict(checkpoint["scaler"])
    trainer.origin = checkpoint["origin"]
    trainer.state = RunState.from_dict(checkpoint, trainer.task.best_name)
