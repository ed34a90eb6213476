"""What Python users give, checked before anything begins: a mistake is told as commands tell it."""

from collections.abc import Iterable
from typing import Any

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.errors import UserError
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from detector.training.recipes.recipe_file import Given, validated


def evaluation_of(**settings: Any) -> EvaluationSettings:
    """Arguments as ``evaluation`` of a recipe takes them; raises ``UserError`` as that does."""
    return validated(EvaluationSettings, Given(settings, "evaluation", {}))


def ablations_of(given: Ablation | Iterable[Ablation]) -> list[Ablation]:
    """One or several; raises ``UserError`` for anything else, such as names of parts."""
    if isinstance(given, Ablation):
        return [given]
    found = list(given) if isinstance(given, Iterable) else [given]
    for one in found:
        if not isinstance(one, Ablation):
            what = f'"{one}"' if isinstance(one, str) else f"a {type(one).__name__}"
            raise UserError(
                f"expected ablations, as model.heads or model.ablations make them, and not {what}"
            )
    return found


def check_is(value: object, expected: type, made_by: str) -> None:
    """Raises ``UserError`` for a value of another type, such as a path of what was to be opened."""
    if not isinstance(value, expected):
        what = f'"{value}"' if isinstance(value, str) else f"a {type(value).__name__}"
        raise UserError(f"expected what {made_by} gives, and not {what}")
