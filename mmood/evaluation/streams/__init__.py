"""Test-time streams: their order, and the results of the scores that learn from the test images."""
