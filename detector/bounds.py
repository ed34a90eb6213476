"""Whole numbers with bounds, as recipes and the rules in them declare their keys."""

from typing import Annotated

from annotated_types import Ge

Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
