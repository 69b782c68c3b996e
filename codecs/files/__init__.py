"""Signals to files and back."""
