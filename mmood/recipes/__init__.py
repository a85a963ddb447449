"""Recipes: one YAML file per set of the literature, from which it can be prepared and described."""
