"""The exact evaluation: outputs of the steps are gathered once, measured and written."""
