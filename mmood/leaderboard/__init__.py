"""A leaderboard whose numbers are computed from the raw scores in run folders, never taken from what they claim."""
