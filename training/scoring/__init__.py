"""How good predictions are: running a checkpoint on a split, entity-level scores, and calibration."""
