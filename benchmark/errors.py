"""Mistakes of the user's, told apart from defects of ours: the command line prints their one line and exits with 2."""


class UserError(ValueError):
    """One line: what was wrong, with the name of the file or option, and what to do."""


class BitstreamError(UserError):
    """A bitstream that cannot be decoded, or a file of one that cannot be read or written."""
