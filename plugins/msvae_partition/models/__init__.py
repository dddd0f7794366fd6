"""Models with exact partition functions."""
