"""File formats of structures, images, fields and evaluations: atomic writes, and defensive reads."""
