"""From files to a checkpoint: datasets, cached image features, learning, scoring, figures and recipes."""
