"""Codecs with nothing to train, as references: the standards of speech and audio, and the uncoded signal."""
