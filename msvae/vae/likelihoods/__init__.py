"""Likelihoods of structures and of properties, given the output of the decoder or of a head."""
