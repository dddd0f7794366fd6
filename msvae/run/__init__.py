"""Runs: self-describing, restartable directories that never lose an acknowledged evaluation."""
