"""Recipes: everything that decides what a run does, as TOML files, and the schema that checks them."""
