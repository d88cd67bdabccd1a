"""The command lines: train, evaluate, draw figures, cache image features."""
