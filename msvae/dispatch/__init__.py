"""Dispatch: evaluations travel to the ranks as a few numbers and come back as values, whatever happens to them."""
