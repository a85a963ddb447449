"""From a recipe to a packed set: the plan, downloads, selection, packing, and the card of a set."""
