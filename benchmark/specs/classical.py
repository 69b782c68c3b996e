"""Codecs with nothing to train: at which tracks and bitrates one runs."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, get_args

from ...codecs.base import Codec
from ...codecs.classical.base import ClassicalCodec, TrackName
from ..errors import UserError


def is_classical(cls: type) -> bool:
    """Whether there is nothing to train in codecs of a class."""
    return issubclass(cls, ClassicalCodec)


def rates_to_run(
    name: str, cls: type[ClassicalCodec], requested: Sequence[float | None], alone: bool
) -> list[float | None]:
    """The bitrates at which a codec runs; its own where none was asked for. UserError names those it has.

    One whose rate cannot be chosen runs once, unless it is `alone` in having been asked for rates.
    """
    wanted = [cls.default_bitrate if rate is None else rate for rate in requested]
    if not cls.bitrates:
        if alone and list(requested) != [None]:
            raise UserError(f"{name} has no bitrate to choose: {cls.offer()}")
        return [None]
    for rate in wanted:
        if not cls.has(rate):
            hint = "" if alone else f"; {name}:bitrate=KBPS gives it one of its own"
            raise UserError(f"{name} has no {rate:g} kbit/s; {cls.offer()}{hint}")
    return wanted


def domains_of(classes: Iterable[type[Codec] | type[ClassicalCodec]]) -> set[str]:
    """The domains that codecs of one call are bound to; a classical codec of waveforms goes where the others are."""
    return {
        cls.domain if issubclass(cls, Codec) else "stimulation"
        for cls in classes
        if issubclass(cls, Codec) or "waveform" not in cls.domains
    }


def tracks_to_run(
    name: str, cls: type[ClassicalCodec], requested: Any, kind: str, others: Collection[str]
) -> list[str]:
    """Where a codec is scored on data of a kind: as `requested`, else beside the `others` (domains of the same call).

    UserError where there is no such track for this codec, or for these data.
    """
    both = ["cochlear", "audio" if kind == "music" else "speech"]
    possible = [track for track, can in zip(both, (kind != "music", "waveform" in cls.domains), strict=True) if can]
    if requested is not None and requested not in possible:
        known = requested in get_args(TrackName)
        why = f"there are, with these data: {', '.join(possible) or 'none'}"
        raise UserError(
            f"{name} cannot be scored on the track {requested!r}; {why}" if known else f"no track {requested!r}; {why}"
        )
    if requested is not None:
        return [requested]
    wanted = [track for track, domain in zip(both, ("stimulation", "waveform"), strict=True) if domain in others]
    if not possible:  # the data are complained about elsewhere
        return ["cochlear"]
    return [track for track in wanted if track in possible] or [possible[-1]]
