"""Adversarial attacks on the score of images: budgets, searches, and the attacked images as sets."""
