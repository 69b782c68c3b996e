"""Metrics: pure functions and the table of what a run reports."""
