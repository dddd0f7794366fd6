"""Likelihoods of structures and of properties, given what the decoder or a head says."""
