"""Conformance checks of plugins, what a structure costs, and structures to try a plugin on."""

from msvae.plugins.conformance.costs import Cost, costs, peak_memory
from msvae.plugins.conformance.leaks import leak
from msvae.plugins.conformance.promises import Check, checks, example_structures

__all__ = ["Check", "Cost", "checks", "costs", "example_structures", "leak", "peak_memory"]
