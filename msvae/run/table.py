"""The result table of a campaign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Table"]


@dataclass(frozen=True)
class Table:
    """A campaign's result as rows of text; the heading stands above it, notes below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    heading: str = ""

    def plain(self) -> dict[str, Any]:
        """Return the table as plain values."""
        return {
            "title": self.title, "heading": self.heading, "columns": self.columns, "rows": self.rows,
            "notes": self.notes,
        }  # fmt: skip
