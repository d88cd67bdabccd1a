"""A training run: network, objective, trainer, run folder, and the final checkpoint."""
