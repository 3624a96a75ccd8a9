"""After training: decoding, and work in the latent space."""
