"""OoD scores: pure functions in `functional`, one module of thin classes per family."""
