"""Proposals: outlier names and class texts that a language model, or WordNet, gives for a list of ID classes."""
