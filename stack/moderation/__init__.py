"""Moderation: word lists, a classifier with calibrated scores, the language model for what is uncertain, people."""
