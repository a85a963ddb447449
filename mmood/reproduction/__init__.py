"""Published tables run again: what that needs, the commands, and the page that compares."""
