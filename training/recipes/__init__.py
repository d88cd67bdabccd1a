"""Recipes: the settings of training runs as TOML files, and the schema that checks them."""
