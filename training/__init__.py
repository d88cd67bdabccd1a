"""From files to a checkpoint: datasets, the image-feature cache, the objective, the trainer, evaluation and recipes."""
