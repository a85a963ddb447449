"""`mmood tune`: settings of scores chosen on ID validation and named validation OoD sets, never on a test set."""
