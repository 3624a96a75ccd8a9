"""Use of a trained model: decoding, and operations in the latent space."""
