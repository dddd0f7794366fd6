"""Stages that campaigns share (labelling, training, the latent field of a part), and the context of a campaign."""
