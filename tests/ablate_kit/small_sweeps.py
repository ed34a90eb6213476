"""Models of checkpoints, and recipes of sweeps of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.model_knobs import Knobs
from ablate_kit.models.opening.framework_registry import choose
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe


def adapter_of(path: Path, model: str | None = None, **options: Any) -> Any:
    with open_checkpoint(path) as checkpoint:
        return open_adapter(checkpoint, model, **options)


def with_knobs(path: Path, device: str = "cpu") -> tuple[Any, Knobs]:
    with open_checkpoint(path) as checkpoint:
        knobs = choose(checkpoint).framework.knobs
        assert knobs is not None
        adapter = open_adapter(checkpoint, device=device)
    return adapter, knobs(adapter)


def sweep_recipe(
    checkpoint: Path | str,
    ablations: Sequence[Mapping[str, Any]],
    images: int = 2,
    *,
    framework: str | None = None,
    **evaluation: Any,
) -> SweepRecipe:
    """Of so many images of shapes."""
    model = {"checkpoint": str(checkpoint)} | ({"framework": framework} if framework else {})
    values = {"model": model, "data": {"kind": "shapes", "limit": images}}
    return SweepRecipe.model_validate(
        values | {"ablations": list(ablations), "evaluation": evaluation}
    )
