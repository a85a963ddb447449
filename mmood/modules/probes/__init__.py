"""Linear heads trained on stored features."""
