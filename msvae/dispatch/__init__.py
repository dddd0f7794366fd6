"""Dispatch: evaluations are sent to the ranks as a few numbers and always come back as values, also if they fail."""
