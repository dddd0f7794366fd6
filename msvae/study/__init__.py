"""The study: one TOML file, validated into typed values."""

from msvae.study.study import Study, load_plugin, load_solver, parse_assignment

__all__ = ["Study", "load_plugin", "load_solver", "parse_assignment"]
