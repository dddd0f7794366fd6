"""Isolation: each evaluation in a child process, whose crash, hang or memory leak does not harm the campaign."""
