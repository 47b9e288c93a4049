"""Scale mixtures of Gaussians: heavy tails and sparsity in a linear transform of the image."""
