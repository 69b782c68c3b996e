"""Mistakes of the user's, told apart from defects of ours: the command line prints their one line and exits with 2."""


class UserError(ValueError):
    """One line: what was wrong, with the name of the file or option, and what to do."""
