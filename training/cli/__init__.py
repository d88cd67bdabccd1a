"""The command lines of training: train, evaluate, draw figures, cache image features."""
