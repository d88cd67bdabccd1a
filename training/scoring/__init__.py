"""How good predictions are: entity-level scores and the calibration of their probabilities."""
