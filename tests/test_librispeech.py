"""LibriSpeech: who is in which split, where it is looked for, and a download that leaves nothing half done."""

import hashlib
import http.server
import importlib.util
import io
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from codecbench.datamodules import librispeech
from codecbench.datamodules.base import SPLITS, DataError, active_level, read_audio
from codecbench.datamodules.demo import CORPORA
from codecbench.datamodules.librispeech import LibriSpeech

SUBSET = "train-clean-100"
SPEAKERS = [speaker for part in librispeech._listed_speakers().values() for speaker in part]


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable(), "one line"
    return message


def flac() -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, 0.1 * np.sin(np.arange(8000) / 3), 16_000, format="FLAC")
    return stream.getvalue()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LibriSpeech/ with two chapters of one utterance a speaker."""
    home, sound = tmp_path_factory.mktemp("corpus") / "LibriSpeech", flac()
    for speaker in SPEAKERS:
        for chapter in ("7", "8"):
            (home / SUBSET / speaker / chapter).mkdir(parents=True)
            (home / SUBSET / speaker / chapter / f"{speaker}-{chapter}-0000.flac").write_bytes(sound)
    (home / "LICENSE.TXT").write_text("CC BY 4.0")
    return home


def test_171_20_60_speakers_and_none_in_two_splits(tree: Path) -> None:
    corpus = LibriSpeech(str(tree))
    speakers = [{item.speaker for item in corpus.items(split)} for split in SPLITS]
    assert [len(part) for part in speakers] == [171, 20, 60]
    assert len(set.union(*speakers)) == 251
    assert [len(corpus.items(split)) for split in SPLITS] == [171, 20, 60]
    assert all(corpus.items(split) == sorted(corpus.items(split)) for split in SPLITS)


@pytest.mark.parametrize(("count", "expected"), [(1, 60), (2, 120), (None, 120)])
def test_utterances_per_speaker_are_the_first_ones(count: int | None, expected: int, tree: Path) -> None:
    items = LibriSpeech(str(tree), utterances_per_speaker=count).items("test")
    assert len(items) == expected
    assert {f"{item.speaker}-7-0000" for item in items} <= {item.name for item in items}


@pytest.mark.parametrize("below", ["..", ".", SUBSET])
def test_three_roots_mean_the_same(below: str, tree: Path) -> None:
    corpus = LibriSpeech(str(tree / below))
    corpus.validate()
    assert corpus.fingerprint() == LibriSpeech(str(tree)).fingerprint()


def test_what_is_missing_is_told(tree: Path, tmp_path: Path) -> None:
    assert "--data.root DIR" in refusal(lambda: LibriSpeech().items("train"))
    message = refusal(lambda: LibriSpeech(str(tmp_path)).items("train"))
    assert str(tmp_path) in message and "--data.root DIR" in message and "--data.download" in message
    assert "File name too long" in refusal(lambda: LibriSpeech("x" * 999).items("train"))
    assert "utterances_per_speaker=0" in refusal(lambda: LibriSpeech(str(tree), utterances_per_speaker=0))
    shutil.copytree(tree, tmp_path / "LibriSpeech")
    gone = librispeech._listed_speakers()["test"][:4]
    for speaker in gone:
        shutil.rmtree(tmp_path / "LibriSpeech" / SUBSET / speaker)
    message = refusal(lambda: LibriSpeech(str(tmp_path)).items("test"))
    assert f"lacks 4 speakers of {SUBSET} ({', '.join(gone[:3])}, ...); unpack" in message


def test_a_changed_list_of_speakers_is_refused(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "list.json"
    changed.write_text(librispeech.LIST.read_text(encoding="utf-8").replace('"26",', "", 1), encoding="utf-8")
    monkeypatch.setattr(librispeech, "LIST", changed)
    assert "the list of speakers was changed" in refusal(lambda: LibriSpeech(str(tree)).items("train"))


# -- the real corpus -------------------------------------------------------------------------------------------------


def test_the_list_follows_its_rule_and_balances_the_sexes(librispeech_root: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_split", CORPORA / "make_librispeech_split.py")
    assert spec and spec.loader
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    table = (librispeech_root / "SPEAKERS.TXT").read_text(encoding="utf-8")
    listed = librispeech._listed_speakers()
    assert make.split_speakers(table) == listed
    fields = [line.split("|") for line in table.splitlines() if not line.startswith(";")]
    sex = {entry[0].strip(): entry[1].strip() for entry in fields}
    women = {split: sum(sex[speaker] == "F" for speaker in listed[split]) for split in SPLITS}
    assert women == {"train": 85, "validation": 10, "test": 30}


def test_the_real_files_are_valid_and_their_dc_is_removed(librispeech_root: Path) -> None:
    corpus = LibriSpeech(str(librispeech_root))
    items = {item.name: item for split in SPLITS for item in corpus.items(split)}
    assert len(items) == 251
    offset = items.get("445-123857-0000")
    if offset is None:
        pytest.skip("the corpus at hand starts with another utterance of speaker 445")
    assert read_audio(offset.path)[0].mean() == pytest.approx(-0.257, abs=1e-3)
    waveform = corpus.load(offset)
    assert abs(waveform.mean()) < 1e-6
    assert active_level(waveform, 16_000) == pytest.approx(-25, abs=1e-3)


# -- download, over loopback -----------------------------------------------------------------------------------------


def archive(tree: Path, *extra: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
        for member in extra:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
        tar.add(tree, "LibriSpeech")
    return stream.getvalue()


class Mirror:
    """A web server on loopback that announces `length` bytes and sends `body`."""

    def __init__(self) -> None:
        mirror, self.body, self.length = self, b"", 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != f"/{SUBSET}.tar.gz":
                    return self.send_error(404)
                self.send_response(200)
                self.send_header("Content-Length", str(mirror.length))
                self.end_headers()
                self.wfile.write(mirror.body)

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output clean."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def offer(self, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.body, self.length = body, len(body)
        monkeypatch.setattr(librispeech, "ARCHIVE_MD5", hashlib.md5(body).hexdigest())


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    mirror = Mirror()
    thread = threading.Thread(target=mirror.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield mirror
    mirror.server.shutdown()
    mirror.server.server_close()
    thread.join()


def failed(root: Path, mirror: Mirror) -> str:
    """The refusal of a download into an empty root, after which nothing may be there but an empty folder."""
    message = refusal(lambda: LibriSpeech(str(root), download=True, mirror=mirror.url).items("test"))
    assert mirror.url in message and "nothing was kept" in message
    assert [path.name for path in root.rglob("*")] == ["LibriSpeech"]
    return message


@pytest.mark.parametrize("below", ["", "LibriSpeech", f"LibriSpeech/{SUBSET}"])
def test_download_fetches_verifies_and_unpacks(
    below: str,
    tree: Path,
    tmp_path: Path,
    mirror: Mirror,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    mirror.offer(archive(tree), monkeypatch)
    root = tmp_path / "new" / below
    corpus = LibriSpeech(str(root), download=True, mirror=mirror.url + "/")
    assert len(corpus.items("test")) == 60
    assert "100%" in capfd.readouterr().err, "a progress bar"
    home = tmp_path / "new" / "LibriSpeech"
    assert sorted(path.name for path in home.iterdir()) == ["LICENSE.TXT", SUBSET]
    mirror.body = b""
    assert LibriSpeech(str(root), download=True, mirror=mirror.url).fingerprint() == corpus.fingerprint()


def test_nothing_is_downloaded_unless_asked(tmp_path: Path, mirror: Mirror) -> None:
    assert "holds no LibriSpeech" in refusal(lambda: LibriSpeech(str(tmp_path), mirror=mirror.url).items("test"))
    assert not list(tmp_path.iterdir())


def test_a_broken_transfer_leaves_nothing(
    tree: Path, tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.offer(archive(tree), monkeypatch)
    mirror.body = mirror.body[:-1000]
    assert "IncompleteRead" in failed(tmp_path, mirror)


def test_a_wrong_checksum_leaves_nothing(tmp_path: Path, mirror: Mirror) -> None:
    mirror.body, mirror.length = b"another archive", 15
    assert "hash" in failed(tmp_path, mirror)


def test_an_archive_that_climbs_out_leaves_nothing(
    tree: Path, tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    climber = tarfile.TarInfo("LibriSpeech/../../../climbed.txt")
    climber.size = 1
    mirror.offer(archive(tree, climber), monkeypatch)
    (tmp_path / "root").mkdir()
    assert "outside the destination" in failed(tmp_path / "root", mirror)
    assert not list(tmp_path.rglob("climbed.txt"))


def test_what_is_no_archive_or_not_there_leaves_nothing(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.offer(b"no archive", monkeypatch)
    failed(tmp_path, mirror)
    mirror.url += "/elsewhere"
    assert "404" in failed(tmp_path, mirror)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "file").write_text("")
    assert "Not a directory" in refusal(
        lambda: LibriSpeech(str(tmp_path / "file"), download=True, mirror=mirror.url).items("test")
    )
