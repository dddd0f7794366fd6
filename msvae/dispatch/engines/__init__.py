"""Engines of other libraries, which ask a scheduler for more than one allocation."""
