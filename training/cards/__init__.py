"""The model card of a checkpoint: what it was trained on, and how good, how large and how fast it is."""
