"""What a campaign expects to do after its data set is labelled and its model trained, said before a run."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Expected"]


@dataclass(frozen=True)
class Expected:
    """Work of one kind. what: in words. evaluations: by the solver. seconds: on the first rank, beside them.

    at_most: it may end earlier.
    """

    what: str
    evaluations: int
    seconds: float = 0.0
    at_most: bool = False
