"""Answers to look at: on a terminal, in a notebook, and as a picture of where the model looked."""
