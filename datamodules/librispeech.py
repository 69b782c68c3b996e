"""LibriSpeech train-clean-100: 251 speakers reading audio books, split 171/20/60 by a committed list.

ROOT/LibriSpeech/train-clean-100/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac, as the corpus unpacks. The list is
corpora/librispeech_split.json; corpora/make_librispeech_split.py states and repeats its rule (sexes balanced).
"""

import hashlib
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from .base import Corpus, DataError, Item, Split, root_folder, shown

SUBSET = "train-clean-100"
ARCHIVE_MD5 = "2a93770f6d5c6c964bc36631d331a522"  # published beside the archive in md5sum.txt
PLAIN = {"Accept-Encoding": "identity"}  # the archive as it is, not unpacked on the way
MIRROR = "https://www.openslr.org/resources/12"
LIST = Path(__file__).parent / "corpora" / "librispeech_split.json"
LIST_SHA256 = "1a7870e4f2c9724cc096680c6099199531b089b3c23b8e292630ca9c6848000f"


class LibriSpeech(Corpus):
    """Real read English.

    Options: root, the folder that holds LibriSpeech/ (that folder itself, or its train-clean-100, will do);
    download, fetch 6.4 GB into root if it is not there; utterances_per_speaker, the first so many of each speaker
    (None: all 28,539); mirror, the address that holds the archive.
    """

    title: ClassVar[str] = "LibriSpeech train-clean-100"
    licence: ClassVar[str] = "CC BY 4.0"
    citation: ClassVar[str] = (
        "Panayotov, Chen, Povey, Khudanpur: Librispeech, ICASSP 2015, doi:10.1109/ICASSP.2015.7178964"
    )
    revision: ClassVar[str] = f"SLR12, split {LIST_SHA256[:8]}"
    url: ClassVar[str] = "https://www.openslr.org/12"
    hours: ClassVar[float | None] = 100.6
    remedy: ClassVar[str] = f"unpack {SUBSET}.tar.gz again"

    def __init__(
        self,
        root: str = "",
        download: bool = False,
        utterances_per_speaker: int | None = 1,
        mirror: str = MIRROR,
    ) -> None:
        if utterances_per_speaker is not None and utterances_per_speaker < 1:
            raise DataError(f"utterances_per_speaker={utterances_per_speaker} must be at least 1, or null for all")
        self.root = root
        self.download = download
        self.utterances_per_speaker = utterances_per_speaker
        self.mirror = mirror
        self._subset: Path | None = None

    def items(self, split: Split) -> list[Item]:
        """The first utterances of every speaker of one split; DataError where the corpus is missing or incomplete."""
        subset = self._located()
        items, missing = [], []
        for speaker in _listed_speakers()[split]:
            paths = sorted((subset / speaker).glob(f"*/{speaker}-*.flac"))[: self.utterances_per_speaker]
            items += [Item(path.stem, path, speaker) for path in paths]
            missing += [] if paths else [speaker]
        if missing:
            named = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise DataError(f"{shown(subset)} lacks {len(missing)} speakers of {SUBSET} ({named}); {self.remedy}")
        return sorted(items)

    def _located(self) -> Path:
        if self._subset is None:
            if not self.root:
                raise DataError("librispeech needs --data.root DIR, the folder that holds (or is to hold) LibriSpeech/")
            root = root_folder(self.root)
            found = _find(root)
            if found is None and self.download:
                fetch(root, self.mirror)
                found = _find(root)
            if found is None:
                raise DataError(
                    f"{shown(root)} holds no LibriSpeech/{SUBSET}; pass --data.root DIR, the folder that holds "
                    "LibriSpeech/, or add --data.download to fetch 6.4 GB into it"
                )
            self._subset = found
        return self._subset


def _find(root: Path) -> Path | None:
    places = (root / "LibriSpeech" / SUBSET, root / SUBSET, root)
    try:
        return next((place for place in places if any(place.glob("[0-9]*/[0-9]*/*-*-*.flac"))), None)
    except OSError as error:
        raise DataError(f"{shown(root)}: cannot be opened ({error.strerror or error})") from None


def _listed_speakers() -> dict[str, list[str]]:
    try:
        text = LIST.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{shown(LIST)}: cannot be opened ({error.strerror}); install codecbench again") from None
    if hashlib.sha256(text.encode()).hexdigest() != LIST_SHA256:
        raise DataError(f"{shown(LIST)}: the list of speakers was changed; install codecbench again")
    return json.loads(text)


def fetch(root: Path, mirror: str) -> None:
    """Download, verify and unpack the archive below root; DataError, and nothing kept, if any of it fails."""
    url = f"{mirror.rstrip('/')}/{SUBSET}.tar.gz"
    home = {"LibriSpeech": root, SUBSET: root.parent}.get(root.name, root / "LibriSpeech")
    if not hasattr(tarfile, "data_filter"):
        raise DataError(
            f"unpacking safely needs Python 3.11.4 or newer; unpack {url} into {shown(home.parent)} yourself"
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home, prefix=".download-") as folder:
            unpacked = _unpack(_download(url, Path(folder)), Path(folder) / "unpacked")
            for path in unpacked.iterdir():  # licence and tables beside the subset
                if path.name != SUBSET and not (home / path.name).exists():
                    path.rename(home / path.name)
            (unpacked / SUBSET).rename(home / SUBSET)  # last, and all at once
    except (OSError, ValueError, tarfile.TarError) as error:  # OSError: also whatever requests raises
        reason = " ".join(str(error).split())
        raise DataError(f"downloading {url} failed, nothing was kept: {reason}") from None


def _download(url: str, folder: Path) -> Path:
    import pooch  # slow to import
    from tqdm import tqdm

    with tqdm(total=1, desc=SUBSET, unit="B", unit_scale=True) as bar:  # closed also when the transfer breaks off
        fetcher: Any = pooch.HTTPDownloader(bar, chunk_size=1 << 20, headers=PLAIN)  # pyright: ignore[reportArgumentType]
        return Path(pooch.retrieve(url, f"md5:{ARCHIVE_MD5}", "archive.tar.gz", folder, downloader=fetcher))


def _unpack(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")  # refuses whatever would land outside the folder
    return folder / "LibriSpeech"
