"""Published corpora: where their files are looked for, and a download that goes on where it was broken off.

ROOT/.ARCHIVE.part holds what has come so far. Once it is complete and its checksum is right it is unpacked beside,
and moved into place, the folder that tells a complete corpus last; then the part file is removed.
"""

import hashlib
import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..base import root_folder, shown
from ..errors import DataError

TIMEOUT = (20.0, 60.0)  # s to connect, s without a byte
CHUNK = 1 << 16  # bytes; what is missing of one when a transfer breaks off is fetched again
PLAIN = {"Accept-Encoding": "identity"}  # the archive as it is, not unpacked on the way


@dataclass(frozen=True)
class Archive:
    """A published archive. `last`, a file or folder in `folder`, is what tells a complete corpus."""

    name: str
    mirror: str  # the address that holds it
    checksum: str  # "md5:..." or "sha256:..."
    size: str  # for the user
    folder: str  # what it unpacks to; made for it where its files lie at the top
    last: str


def located(
    corpus: str,
    root: str,
    places: Sequence[str],
    patterns: Sequence[str],
    archive: Archive | None = None,
    mirror: str | None = None,
) -> Path:
    """The folder of a published corpus: the first of `places` below root that holds a file of one of the patterns.

    With a mirror, the archive is downloaded where there is none. DataError says what is missing.
    """
    holder = f"the folder that holds {'(or is to hold) ' if archive else ''}{places[0].split('/')[0]}/"
    if not root:
        raise DataError(f"{corpus} needs --data.root DIR, {holder}")
    home = root_folder(root)
    place = _find(home, places, patterns)
    if place is None and archive and mirror is not None:
        _fetch(archive, mirror, {archive.folder: home, archive.last: home.parent}.get(home.name, home / archive.folder))
        place = _find(home, places, patterns)
    if place is None:
        offer = f", or add --data.download to fetch {archive.size} into it" if archive else ""
        raise DataError(f"{shown(home)} holds no {places[0]}/{patterns[0]}; pass --data.root DIR, {holder}{offer}")
    return place


def _find(home: Path, places: Sequence[str], patterns: Sequence[str]) -> Path | None:
    try:
        for place in places:
            if any(next((home / place).glob(pattern), None) for pattern in patterns):
                return home / place
    except OSError as error:
        raise DataError(f"{shown(home)}: cannot be opened ({error.strerror or error})") from None
    return None


def _fetch(archive: Archive, mirror: str, home: Path) -> None:
    """Download, verify and unpack an archive into the folder `home`; DataError if any of it fails."""
    from filelock import FileLock, Timeout

    url = f"{mirror.rstrip('/')}/{archive.name}"
    lock = home / f".{archive.name}.lock"
    if not hasattr(tarfile, "data_filter"):
        raise DataError(
            f"unpacking safely needs Python 3.11.4 or newer; unpack {url} into {shown(home.parent)} yourself"
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            try:
                part = home / f".{archive.name}.part"
                _download(url, part, archive)
                _verify(url, part, archive)
                _unpack(part, home, archive)
                part.unlink()
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        raise DataError(
            f"{shown(home)}: another process is downloading to it; run this again when it is done"
        ) from None
    except OSError as error:  # also whatever requests raises
        raise DataError(f"downloading {url} failed: {' '.join(str(error).split())}") from None


def _download(url: str, part: Path, archive: Archive) -> None:
    """Fetch what is not in the part file yet; from the start where the server does not know ranges."""
    import requests  # slow to import
    from tqdm import tqdm

    there = part.stat().st_size if part.exists() else 0
    headers = PLAIN | ({"Range": f"bytes={there}-"} if there else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if there and answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # all of it is there: the checksum will tell
        answer.raise_for_status()
        resumed = answer.headers.get("Content-Range", "").startswith(f"bytes {there}-")
        there = there if answer.status_code == requests.codes.partial_content and resumed else 0
        total = there + int(answer.headers.get("Content-Length", 0))
        with (
            tqdm(total=total or None, initial=there, desc=archive.name, unit="B", unit_scale=True) as bar,
            part.open("ab" if there else "wb") as file,
        ):
            for chunk in _chunks(answer, url, part):
                file.write(chunk)
                bar.update(len(chunk))
    if part.stat().st_size < total:
        raise _broken_off(url, part, "the connection was closed")


def _chunks(answer: Any, url: str, part: Path) -> Any:
    import requests

    try:
        yield from answer.iter_content(CHUNK)
    except requests.RequestException as error:
        raise _broken_off(url, part, " ".join(str(error).split())) from None


def _broken_off(url: str, part: Path, reason: str) -> DataError:
    return DataError(
        f"downloading {url} broke off ({reason}); run this again to go on, or remove {shown(part)} to start anew"
    )


def _verify(url: str, part: Path, archive: Archive) -> None:
    method, _, expected = archive.checksum.partition(":")
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, method).hexdigest()
    if digest != expected:
        part.unlink()
        raise DataError(f"downloading {url} failed, nothing was kept: its {method} is {digest}, not {expected}")


def _unpack(part: Path, home: Path, archive: Archive) -> None:
    """Unpack beside, then move into place what is not there yet; nothing is kept where the archive is no good."""
    folder = home / f".{archive.name}.unpacked"
    shutil.rmtree(folder, ignore_errors=True)  # of a killed process
    try:
        folder.mkdir()
        _extract(part, folder, archive.name)
        unpacked = folder / archive.folder if (folder / archive.folder).is_dir() else folder
        if not (unpacked / archive.last).exists():
            raise DataError(f"it holds no {archive.last}")
        for path in sorted(unpacked.iterdir()):  # licence and tables beside the data
            if path.name != archive.last and not (home / path.name).exists():
                path.rename(home / path.name)
        (unpacked / archive.last).rename(home / archive.last)  # last, and all at once
    except (DataError, tarfile.TarError, zipfile.BadZipFile) as error:
        part.unlink()
        reason = " ".join(str(error).split())
        raise DataError(f"{archive.name} cannot be unpacked, nothing was kept: {reason}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _extract(part: Path, folder: Path, name: str) -> None:
    """Every member of the archive, with a progress bar; refused where one would land outside the folder."""
    from tqdm import tqdm

    if not name.endswith(".zip"):
        with tarfile.open(part) as tar:
            for member in tqdm(tar, desc=f"unpacking {name}", unit=" files"):
                tar.extract(member, folder, filter="data")
        return
    with zipfile.ZipFile(part) as archive:
        for member in tqdm(archive.namelist(), desc=f"unpacking {name}", unit=" files"):
            path = PurePosixPath(member.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
                raise DataError(f"{member!r} would be extracted outside the destination")
            archive.extract(member, folder)
