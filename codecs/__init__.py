"""Codecs: one file per backbone, all behind codecs/base.py."""
