"""Runs: a directory that describes itself, can be restarted, and loses nothing that was acknowledged."""
