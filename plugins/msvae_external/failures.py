"""A structure whose program gave no result."""

__all__ = ["Failure"]


class Failure(Exception):  # noqa: N818 - a value in the end
    """One sentence that says why a structure has no properties."""
