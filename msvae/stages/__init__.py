"""Stages that campaigns share: labelling, training, the field of latents in a part; and what a campaign is given."""
