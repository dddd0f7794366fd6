"""Random fields of latents, and the structures generated from them window by window."""
