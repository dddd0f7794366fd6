"""The command line: `msvae run`, `status`, `reproduce`, `solve`, `study`, `plugin`, `report`."""

from msvae.cli.app import app, main

__all__ = ["app", "main"]
