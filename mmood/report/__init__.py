"""Results of a run: their model, the files they are kept in, and the tables they are read from."""
