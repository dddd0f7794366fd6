"""Isolation: evaluations in a child process each, which may crash, hang or hoard without harm to the campaign."""
