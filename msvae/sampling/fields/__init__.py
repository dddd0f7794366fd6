"""Random fields of latents, and how structures are made from them, window by window."""
