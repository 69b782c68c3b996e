"""Codecs outside of the package."""
