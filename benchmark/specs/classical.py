"""Codecs with nothing to train: which there are, and at which tracks and bitrates one runs."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, get_args

from ...codecs.classical.base import ClassicalCodec, Track
from ..errors import UserError
from .options import create
from .registry import lookup
from .spec import Choice

NO_QUANTIZER = Choice("none")


def is_classical(name: str) -> bool:
    """Whether a codec's name or preset is that of one with nothing to train. UserError: there is none of that name."""
    return issubclass(lookup("codecs", name)[0], ClassicalCodec)


def make_baseline(name: str, options: dict[str, Any], bitrate: float | None) -> ClassicalCodec:
    """The codec at a bitrate. UserError where it refuses either."""
    return create("codec", name, lookup("codecs", name)[0], options, bitrate)


def rates_to_run(name: str, asked: Sequence[float | None], alone: bool) -> list[float | None]:
    """The bitrates at which a codec runs; its own where none was asked for. UserError names those it has.

    One whose rate cannot be chosen runs once, unless it is `alone` in having been asked for rates.
    """
    cls: type[ClassicalCodec] = lookup("codecs", name)[0]  # type: ignore[assignment]
    wanted = [cls.default_bitrate if rate is None else rate for rate in asked]
    if not cls.bitrates:
        if alone and list(asked) != [None]:
            raise UserError(f"{name} has no bitrate to choose: {cls.offer()}")
        return [None]
    for rate in wanted:
        if not cls.has(rate):
            own = "" if alone else f"; {name}:bitrate=KBPS gives it one of its own"
            raise UserError(f"{name} has no {rate:g} kbit/s; {cls.offer()}{own}")
    return wanted


def domains_of(codecs: Iterable[str]) -> set[str]:
    """The domains that codecs of one call are bound to; a classical codec of waveforms goes where the others are."""
    classes = [lookup("codecs", name)[0] for name in codecs]
    bound = {cls.domain for cls in classes if not issubclass(cls, ClassicalCodec)}  # type: ignore[attr-defined]
    return bound | {
        "stimulation" for cls in classes if issubclass(cls, ClassicalCodec) and "waveform" not in cls.domains
    }


def tracks_to_run(name: str, asked: Any, kind: str, others: Collection[str]) -> list[str]:
    """Where a codec is scored on data of a kind: as `asked`, else beside the `others` (domains of the same call).

    UserError where there is no such track for this codec, or for these data.
    """
    domains = lookup("codecs", name)[0].domains  # type: ignore[attr-defined]
    both = ["cochlear", "audio" if kind == "music" else "speech"]
    possible = [track for track, can in zip(both, (kind != "music", "waveform" in domains), strict=True) if can]
    if asked is not None and asked not in possible:
        known = asked in get_args(Track)
        why = f"there are, with these data: {', '.join(possible) or 'none'}"
        raise UserError(
            f"{name} cannot be scored on the track {asked!r}; {why}" if known else f"no track {asked!r}; {why}"
        )
    if asked is not None:
        return [asked]
    wanted = [track for track, domain in zip(both, ("stimulation", "waveform"), strict=True) if domain in others]
    if not possible:  # the data are complained about elsewhere
        return ["cochlear"]
    return [track for track in wanted if track in possible] or [possible[-1]]
