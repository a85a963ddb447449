"""The results of an evaluation as data, tables and files."""
