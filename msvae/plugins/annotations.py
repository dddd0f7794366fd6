"""What the annotation of a setting says: its unit, its range, and a rule for what is no range.

A setting says once what it is. The schema, `msvae plugin show`, what a study is refused for and what a class refuses
that is constructed directly all come from its annotation:

    @dataclass(frozen=True)
    class Spheres(msvae.Dataset):
        '''Spheres. radius: of each. count: number of structures. sizes: of the grids, in ascending order.'''
        radius: msvae.Length
        count: msvae.Count = 100
        sizes: Annotated[tuple[msvae.Voxels, ...], msvae.Ascending] = (8, 16)
        porosity: Annotated[float, pydantic.Field(ge=0.1, lt=0.9), msvae.Unit("1")] = 0.5

`__post_init__` is left with what ties two settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

__all__ = [
    "Ascending",
    "Count",
    "Distinct",
    "Finite",
    "Fraction",
    "Length",
    "Natural",
    "NonNegative",
    "Positive",
    "Rule",
    "Seconds",
    "Share",
    "Unit",
    "Voxels",
]


@dataclass(frozen=True)
class Unit:
    """The unit of a number, in its annotation: Annotated[Positive, Unit("K")]."""

    name: str

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "unit": self.name}


@dataclass(frozen=True)
class Rule:
    """A condition on one setting that is no range, in its annotation.

    text: what the value is, after "is": "in ascending order". holds: whether a value (a list may be a tuple) is that.
    """

    text: str
    holds: Callable[[Any], bool]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "$comment": self.text}

    def _checked(self, value: Any) -> Any:
        if not self.holds(value):
            raise ValueError(f"expected {self.text}")
        return value


def _ascends(values: Sequence[Any]) -> bool:
    return all(a < b for a, b in pairwise(values))


def _differ(values: Sequence[Any]) -> bool:
    return all(value not in values[:k] for k, value in enumerate(values))


LARGEST = 2**31  # above what numbers of arrays and threads can be

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, lt=LARGEST)]
Natural = Annotated[int, Field(ge=0, lt=LARGEST)]
Length = Annotated[Positive, Unit("m")]
Seconds = Annotated[Positive, Unit("s")]
Voxels = Annotated[Count, Unit("voxels")]
Ascending = Rule("in ascending order", _ascends)
Distinct = Rule("a list without repetitions", _differ)
