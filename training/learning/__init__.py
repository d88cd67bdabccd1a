"""A training run: network, objective, trainer, run folder, and the checkpoint that it ends with."""
