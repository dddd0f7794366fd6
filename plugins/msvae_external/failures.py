"""A structure whose program gave no result."""

from typing import Literal

__all__ = ["Failure", "Status"]

Status = Literal["failed", "timeout", "crashed", "invalid"]


class Failure(Exception):  # noqa: N818 - a value in the end
    """One sentence that says why a structure has no properties.

    status: "crashed" by a signal, "timeout", "invalid" for what is no finite number, else "failed".
    """

    def __init__(self, text: str, status: Status = "failed") -> None:
        super().__init__(text)
        self.status: Status = status
