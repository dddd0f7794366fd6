"""The VAE engine: encoder, decoder, prior and heads are modules whose call returns a torch Distribution."""
