"""Data: one file per corpus, all behind datamodules/base.py."""
