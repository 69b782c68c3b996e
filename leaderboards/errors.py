"""What is wrong with records and claims, in one line for the user."""

import difflib
from collections.abc import Iterable


class RecordError(ValueError):
    """A record, an items file or a limit cannot be used; the message is one line for the user."""


class ClaimsError(ValueError):
    """A claims file cannot be used; the message is one line for the user."""


def nearest(name: str, names: Iterable[str]) -> str:
    """How the sentence about an unknown name ends: with what was meant, where something comes near."""
    close = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else "."
