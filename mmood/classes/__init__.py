"""Classes: lists of names, and which folder, synset and name belong to which label."""
