"""A model behind UM-Bridge as a solver (Seelinger et al. 2023, J. Open Source Softw. 8, 4748)."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from msvae import (
    Array,
    Count,
    Finite,
    Natural,
    Properties,
    Quantity,
    Rule,
    Seconds,
    Settings,
    Solver,
    Specification,
    Structures,
)
from msvae_umbridge.client import Client, ServerError, UnreachableError

__all__ = ["Output", "UmBridge"]

Servers = Rule(
    "addresses of servers, as in http://localhost:4242",
    lambda urls: all(re.fullmatch(r"https?://[^\s/]+(/\S*)?", url) for url in urls),
)


def _apart(outputs: Sequence[Any]) -> bool:
    names = [o["name"] if isinstance(o, Mapping) else o.name for o in outputs]  # as read from a study, or as made
    return len(set(names)) == len(names)


Apart = Rule("outputs with names of their own", _apart)
Input = Literal["values", "fractions"] | tuple[Finite, ...]


@dataclass(frozen=True)
class Output(Settings):
    """A property in the model's answer.

    name, unit: of the property. output: number of the vector that has it. first: place of its first number there.
    shape: of the property, () for a number; "d" is the number of dimensions, "v" of Voigt's components.
    factor: that turns the model's number into the unit.
    spacing_exponent: power of the voxel's size with which it scales; by default that of the unit.
    """

    name: Annotated[str, Field(pattern=r"^\w+$")]
    unit: str = "1"
    output: Natural = 0
    first: Natural = 0
    shape: tuple[Count | Literal["d", "v"], ...] = ()
    factor: Finite = 1.0
    spacing_exponent: int | None = None

    def taken(self, vectors: Any, shape: tuple[int, ...]) -> Array:
        """Return the property, of a shape, from the output vectors; ServerError if they do not have it."""
        size = int(np.prod(shape, dtype=int))
        try:
            found = np.array(vectors[self.output][self.first : self.first + size], dtype=np.float64)
        except (IndexError, TypeError, ValueError, KeyError):
            found = np.zeros(0)
        if found.shape != (size,):
            raise ServerError(
                f"'{self.name}' is not in the answer: expected {self.first + size} numbers in output {self.output}"
            )
        if not np.isfinite(found).all():
            raise ServerError(f"'{self.name}' is not a finite number")
        return self.factor * found.reshape(shape)


@dataclass(frozen=True)
class UmBridge(Solver):
    """Properties by a model that servers offer over the protocol of UM-Bridge.

    urls: servers of the same model; structures of a batch are shared among them, and a server that does not answer is
        left to the others. model: its name there.
    inputs: what each input vector is: "values" of the voxels (channels, *grid), phases by their numbers; "fractions" of
        the constituents; or fixed numbers.
    outputs: the properties in its answer. config: that is handed to the model. timeout: for an answer.
    """

    name = "um-bridge"
    dimensions = (0, 1, 2, 3)
    computes: ClassVar[tuple[Quantity, ...]] = (Quantity("outputs"),)  # a study says which

    urls: Annotated[tuple[str, ...], Field(min_length=1), Servers]
    outputs: Annotated[tuple[Output, ...], Field(min_length=1), Apart]
    model: str = "forward"
    inputs: Annotated[tuple[Literal["values", "fractions"] | tuple[Finite, ...], ...], Field(min_length=1)] = (
        "values",
    )
    config: Mapping[str, Any] = field(default_factory=dict)
    timeout: Seconds = 3600.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "computes", self._declared())

    def _declared(self) -> tuple[Quantity, ...]:
        return tuple(Quantity(o.name, o.unit, o.shape, spacing_exponent=o.spacing_exponent) for o in self.outputs)

    @classmethod
    def example(cls) -> UmBridge:
        from msvae_umbridge.example import served

        return cls((served(),), (Output("fraction"),), model="fractions", inputs=("fractions",))

    def misfit(self, specification: Specification) -> str | None:
        reason = super().misfit(specification)
        if reason:
            return reason
        lengths = {"values": int(np.prod(specification.shape)), "fractions": len(specification.constituents)}
        own = [lengths[kind] if isinstance(kind, str) else len(kind) for kind in self.inputs]
        try:
            sizes = self._asked("InputSizes", {})["inputSizes"]
        except (ServerError, UnreachableError) as error:
            return str(error)
        if sizes != own:
            return f"model '{self.model}' takes inputs of {sizes} numbers, and solver.inputs gives {own}: change them"
        return None

    def evaluate(self, structures: Structures) -> Properties:
        """Return the properties; a structure without an answer is a failure of its own."""
        shapes = {q.name: q.sizes for q in self.quantities(structures.specification)}
        arrays = {name: np.full((len(structures), *shape), np.nan) for name, shape in shapes.items()}
        failures: dict[int, str] = {}
        questions = [{"input": self._input(structures[k])} for k in range(len(structures))]
        for k, answer in enumerate(self._shared("Evaluate", questions)):
            try:
                if isinstance(answer, Exception):
                    raise answer
                for output in self.outputs:
                    arrays[output.name][k] = output.taken(answer.get("output"), shapes[output.name])
            except (ServerError, UnreachableError) as error:
                failures[k] = str(error)
        for k in failures:
            for array in arrays.values():
                array[k] = np.nan
        return Properties(arrays, failures)

    def pullback(self, structures: Structures, cotangents: Mapping[str, Array]) -> Array | None:
        """Return the gradient by the values, where the model has one; None where it is not given the values."""
        if "values" not in self.inputs or not self._asked("ModelInfo", {}).get("support", {}).get("Gradient"):
            return None
        sizes = self._asked("OutputSizes", {})["outputSizes"]
        total = np.zeros(structures.values.shape)
        for number in sorted({output.output for output in self.outputs}):
            questions = [
                {"input": self._input(structures[k]), "outWrt": number, "inWrt": self.inputs.index("values"),
                 "sens": self._sensitivity(number, sizes[number], {n: c[k] for n, c in cotangents.items()})}
                for k in range(len(structures))
            ]  # fmt: skip
            for k, answer in enumerate(self._shared("Gradient", questions)):
                if isinstance(answer, Exception):
                    raise answer
                total[k] += np.array(answer["output"], dtype=np.float64).reshape(total[k].shape)
        return total

    def _sensitivity(self, number: int, size: int, cotangents: Mapping[str, Array]) -> list[float]:
        """Return the cotangent of an output vector from those of the properties in it."""
        total = np.zeros(size)
        for output in self.outputs:
            if output.output == number:
                own = output.factor * np.ravel(cotangents[output.name])
                total[output.first : output.first + len(own)] += own
        return total.tolist()

    def _input(self, structure: Structures) -> list[list[float]]:
        """Return the input vectors for one structure."""
        known = {"values": structure.values[0].astype(np.float64).ravel(), "fractions": structure.fractions[0]}
        return [known[kind].tolist() if isinstance(kind, str) else list(kind) for kind in self.inputs]

    def _asked(self, feature: str, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of the first server that can be reached."""
        (answer,) = self._shared(feature, [question])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _shared(self, feature: str, questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | Exception]:
        """Return the answers, or why there is none; the servers are asked side by side, each one question at a time."""
        answers: dict[int, dict[str, Any] | Exception] = {}
        left = deque(enumerate(questions))
        alive, gone = list(self.urls), UnreachableError("there is no server")

        def work(url: str) -> UnreachableError | None:
            client = Client(url, self.model, self.timeout)
            while left:
                try:
                    k, question = left.popleft()
                except IndexError:  # another thread was faster
                    return None
                try:
                    answers[k] = client.asked(feature, **question, config=dict(self.config))
                except ServerError as error:
                    answers[k] = error
                except UnreachableError as error:
                    left.append((k, question))
                    return error
            return None

        while left and alive:
            with ThreadPoolExecutor(len(alive)) as pool:
                ends = list(pool.map(work, alive))
            gone = next((error for error in ends if error), gone)
            alive = [url for url, error in zip(alive, ends, strict=True) if error is None]
        return [answers.get(k, gone) for k in range(len(questions))]
