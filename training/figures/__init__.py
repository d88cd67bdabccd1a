"""Figures of a checkpoint and its run: what they show, and how they are drawn."""
