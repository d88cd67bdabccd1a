"""Figures of a checkpoint and its run: what they show, and how it is drawn."""
