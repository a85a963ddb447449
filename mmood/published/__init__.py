"""What papers report: their tables as data, and how mmood computes the same."""
