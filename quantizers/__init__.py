"""Quantizers: one file per method, all behind quantizers/base.py."""
