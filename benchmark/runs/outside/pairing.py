"""Which decoded file and which bitstream belong to which reference: those of one path without its suffix."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ....datamodules.base import shown
from ....datamodules.parts.tree import audio_files, named_items
from ...errors import UserError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")


class Scoring(NamedTuple):
    """What `benchmark score` was asked."""

    reference: Path
    decoded: Path
    bitstreams: Path | None = None
    name: str | None = None
    track: str | None = None
    align: bool = False


class Pair(NamedTuple):
    """One item's files."""

    name: str
    reference: Path
    decoded: Path
    bitstream: Path | None


def paired(request: Scoring) -> list[Pair]:
    """The files of every item, by path without suffix. UserError: one lacks its counterpart, or there are none."""
    for option, folder in (("decoded", request.decoded), ("bitstreams", request.bitstreams)):
        if folder is not None and folder.resolve() == request.reference.resolve():
            raise UserError(f"--{option} {shown(folder)}: is the folder of the references; name another")
    references = named_items(request.reference, [*audio_files(request.reference, SUFFIXES)], 0)
    if not references:
        raise UserError(f"{shown(request.reference)}: holds no {', '.join(SUFFIXES)} files")
    decoded = _by_stem(request.decoded, audio_files(request.decoded, SUFFIXES))
    names = {item.path: item.name for item in references}
    wanted = _by_stem(request.reference, names)
    complain_about("no decoded file for", wanted.keys() - decoded.keys(), request.decoded)
    complain_about("no reference for", decoded.keys() - wanted.keys(), request.reference)
    streams: dict[str, Path] = {}
    if request.bitstreams is not None:
        audio = request.bitstreams.resolve() == request.decoded.resolve()
        files = [path for path in request.bitstreams.rglob("*") if path.is_file() and not path.name.startswith(".")]
        streams = _by_stem(request.bitstreams, [path for path in files if not (audio and path in decoded.values())])
        complain_about("no bitstream for", wanted.keys() - streams.keys(), request.bitstreams)
        empty = [stem for stem in wanted if not streams[stem].stat().st_size]
        complain_about("an empty bitstream for", empty, request.bitstreams, "code them again")
    return [Pair(names[path], path, decoded[stem], streams.get(stem)) for stem, path in sorted(wanted.items())]


def _by_stem(folder: Path, paths: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        stem = str(path.relative_to(folder).with_suffix(""))
        if stem in found:
            raise UserError(f"{shown(path)} and {shown(found[stem])} have one name; keep one of them")
        found[stem] = path
    return found


def complain_about(what: str, missing: Iterable[str], folder: Path, remedy: str = "pairs have one name each") -> None:
    """UserError naming the first missing items, where there are any."""
    names = sorted(missing)
    if names:
        shown_names = ", ".join(shown(Path(name)) for name in names[:3]) + ", ..." * (len(names) > 3)
        raise UserError(f"{shown(folder)}: {what} {len(names)} item(s): {shown_names}; {remedy}")
