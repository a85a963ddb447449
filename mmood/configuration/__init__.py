"""Configurations: found, parsed by Lightning's command line, and their errors as sentences."""
