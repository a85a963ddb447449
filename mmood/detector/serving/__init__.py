"""A detector behind HTTP."""
