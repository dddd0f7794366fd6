"""Forward models: what an instrument measures of an image."""
