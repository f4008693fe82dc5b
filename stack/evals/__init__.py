"""Evaluation: suites of examples, their scores, and the gate that compares them with a baseline."""
