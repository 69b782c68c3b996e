"""Downloads over loopback: whole, broken off and resumed, refused; archives that climb out; nothing half done."""

import hashlib
import http.server
import io
import random
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from codecbench.datamodules import cifar10, librispeech, libritts, ljspeech, vctk
from codecbench.datamodules.base import Corpus
from codecbench.datamodules.errors import DataError
from codecbench.datamodules.parts.downloads import Archive, located
from filelock import FileLock

ZIP = Archive("set.zip", "", "", "1 kB", "Set-1.0", "wavs")
TAR = replace(ZIP, name="set.tar.gz")
FILES = {
    "Set-1.0/wavs/a.wav": b"a" * 3000,
    "Set-1.0/wavs/b.wav": random.Random(0).randbytes(300_000),
    "Set-1.0/LICENCE": b"free",
}


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable(), "one line"
    return message


def tarred(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


class Mirror:
    """A web server on loopback that offers one body, of which it may send only the first `sent` bytes."""

    def __init__(self) -> None:
        self.body, self.name, self.ranges = b"", "", True
        self.sent: int | None = None
        self.asked: list[str | None] = []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != f"/{mirror.name}":
                    return self.send_error(404)
                mirror.asked.append(self.headers["Range"])
                start = int(self.headers["Range"][6:-1]) if self.headers["Range"] and mirror.ranges else 0
                if start and start >= len(mirror.body):
                    return self.send_error(416)
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(mirror.body) - start))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(mirror.body) - 1}/{len(mirror.body)}")
                self.end_headers()
                self.wfile.write(mirror.body[start : mirror.sent])

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output clean."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def offer(self, archive: Archive, body: bytes, method: str = "md5") -> Archive:
        self.body, self.name = body, archive.name
        return replace(archive, mirror=self.url, checksum=f"{method}:{hashlib.new(method, body).hexdigest()}")


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


def fetched(root: Path, archive: Archive, mirror: str | None = None) -> Path:
    return located("set", str(root), ("Set-1.0/wavs", "wavs", "."), ("*.wav",), archive, mirror or archive.mirror)


def left(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())


WHOLE = ["Set-1.0/LICENCE", "Set-1.0/wavs/a.wav", "Set-1.0/wavs/b.wav"]


@pytest.mark.parametrize("below", ["", "Set-1.0", "Set-1.0/wavs"])
@pytest.mark.parametrize(
    ("archive", "body"),
    [
        (TAR, tarred(FILES)),
        (replace(TAR, name="set.tar.bz2"), tarred(FILES, "w:bz2")),
        (ZIP, zipped(FILES)),
        (ZIP, zipped({name.removeprefix("Set-1.0/"): content for name, content in FILES.items()})),
    ],
    ids=["tar.gz", "tar.bz2", "zip", "zip without a top folder"],
)
def test_an_archive_is_fetched_verified_and_unpacked_once(
    archive: Archive, body: bytes, below: str, tmp_path: Path, mirror: Mirror, capfd: pytest.CaptureFixture
) -> None:
    offered = mirror.offer(archive, body, "sha256")
    home = fetched(tmp_path / below, offered, mirror.url + "/")
    assert left(tmp_path) == WHOLE
    assert (home / "b.wav").read_bytes() == FILES["Set-1.0/wavs/b.wav"]
    assert "100%" in capfd.readouterr().err, "a progress bar"
    assert fetched(tmp_path / below, offered).samefile(home) and len(mirror.asked) == 1


def test_nothing_is_downloaded_unless_asked(tmp_path: Path, mirror: Mirror) -> None:
    archive = mirror.offer(TAR, tarred(FILES))
    message = refusal(lambda: located("set", str(tmp_path), ("Set-1.0/wavs", "."), ("*.wav",), archive))
    assert "holds no Set-1.0/wavs/*.wav" in message and "--data.download to fetch 1 kB" in message
    assert not list(tmp_path.iterdir()) and not mirror.asked


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_broken_transfer_goes_on_where_it_stopped(ranges: bool, tmp_path: Path, mirror: Mirror) -> None:
    archive = mirror.offer(TAR, tarred(FILES))
    mirror.sent = 100_000
    for _ in range(2):  # the second time nothing more comes
        message = refusal(lambda: fetched(tmp_path, archive))
        assert "broke off" in message and "run this again to go on" in message and mirror.url in message
        assert left(tmp_path) == ["Set-1.0/.set.tar.gz.part"]
    part = tmp_path / "Set-1.0/.set.tar.gz.part"
    size = len(part.read_bytes())
    assert 0 < size <= mirror.sent and part.read_bytes() == mirror.body[:size]
    mirror.sent, mirror.ranges = None, ranges
    fetched(tmp_path, archive)
    assert mirror.asked == [None, *[f"bytes={size}-"] * 2]
    assert left(tmp_path) == WHOLE


def test_a_complete_part_file_of_a_killed_process_is_used(tmp_path: Path, mirror: Mirror) -> None:
    archive = mirror.offer(TAR, tarred(FILES))
    (tmp_path / "Set-1.0/.set.tar.gz.unpacked/Set-1.0").mkdir(parents=True)
    (tmp_path / "Set-1.0/.set.tar.gz.part").write_bytes(mirror.body)
    fetched(tmp_path, archive)
    assert left(tmp_path) == WHOLE


def test_a_wrong_checksum_leaves_nothing(tmp_path: Path, mirror: Mirror) -> None:
    archive = mirror.offer(TAR, tarred(FILES))
    mirror.body = b"another archive"
    message = refusal(lambda: fetched(tmp_path, archive))
    assert f"its md5 is {hashlib.md5(b'another archive').hexdigest()}, not {archive.checksum[4:]}" in message
    assert "nothing was kept" in message and left(tmp_path) == []


def test_a_part_file_of_something_else_is_found_out(tmp_path: Path, mirror: Mirror) -> None:
    archive = mirror.offer(TAR, tarred(FILES))
    (tmp_path / "Set-1.0").mkdir()
    (tmp_path / "Set-1.0/.set.tar.gz.part").write_bytes(b"x" * 50)
    assert "nothing was kept" in refusal(lambda: fetched(tmp_path, archive))
    fetched(tmp_path, archive)
    assert left(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("archive", "body"),
    [
        (TAR, tarred(FILES | {"../../climbed": b"x"})),
        (TAR, tarred(FILES | {"/tmp/../../climbed": b"x"})),
        (ZIP, zipped(FILES | {"wavs/../../../climbed": b"x"})),
        (ZIP, zipped(FILES | {"..\\..\\climbed": b"x"})),
        (ZIP, zipped(FILES | {"/climbed": b"x"})),
    ],
)
def test_an_archive_that_climbs_out_leaves_nothing(
    archive: Archive, body: bytes, tmp_path: Path, mirror: Mirror
) -> None:
    offered = mirror.offer(archive, body)
    assert "outside the destination" in refusal(lambda: fetched(tmp_path / "root", offered))
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("archive", "body"),
    [(TAR, b"no archive"), (ZIP, b"no archive"), (TAR, tarred({"Set-1.0/other/a.wav": b"a"}))],
)
def test_what_is_no_such_archive_leaves_nothing(archive: Archive, body: bytes, tmp_path: Path, mirror: Mirror) -> None:
    offered = mirror.offer(archive, body)
    message = refusal(lambda: fetched(tmp_path, offered))
    assert f"{archive.name} cannot be unpacked, nothing was kept" in message and left(tmp_path) == []


def test_a_server_without_it_or_no_server_is_named(tmp_path: Path, mirror: Mirror) -> None:
    archive = mirror.offer(TAR, tarred(FILES))
    assert "404" in refusal(lambda: fetched(tmp_path, archive, mirror.url + "/elsewhere"))
    assert "Invalid URL" in refusal(lambda: fetched(tmp_path, archive, "nowhere"))
    mirror.server.socket.close()
    assert "failed" in refusal(lambda: fetched(tmp_path, archive, "http://127.0.0.1:9"))
    assert left(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "file").write_text("")
    archive = mirror.offer(TAR, tarred(FILES))
    assert "Not a directory" in refusal(lambda: fetched(tmp_path / "file", archive))


def test_two_processes_do_not_download_to_one_place(tmp_path: Path, mirror: Mirror) -> None:
    archive = mirror.offer(TAR, tarred(FILES))
    (tmp_path / "Set-1.0").mkdir()
    with FileLock(tmp_path / "Set-1.0/.set.tar.gz.lock"):
        assert "another process is downloading" in refusal(lambda: fetched(tmp_path, archive))
    assert not mirror.asked


# -- the corpora that offer it ----------------------------------------------------------------------------------------


def flac(form: str = "FLAC") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, 0.1 * np.sin(np.arange(8000) / 3), 16_000, format=form)
    return stream.getvalue()


def in_own_layout(module: object) -> bytes:
    """The archive of a corpus as its publisher lays it out, as small as it can be."""
    if module is cifar10:
        names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
        return tarred({f"cifar-10-batches-bin/{name}": bytes(10 * 3073) for name in names})
    if module is vctk:
        names = [f"p{speaker}/p{speaker}_001_mic1.flac" for speaker in range(225, 228)]
        return zipped({f"wav48_silence_trimmed/{name}": flac() for name in names})
    if module is ljspeech:
        return tarred({f"LJSpeech-1.1/wavs/LJ00{number}-0001.wav": flac("WAV") for number in range(1, 4)}, "w:bz2")
    if module is libritts:
        names = [f"{speaker}/7/{speaker}_7_000000_000000.wav" for speaker in range(3)]
        return tarred({f"LibriTTS/train-clean-100/{name}": flac("WAV") for name in names})
    speakers = [speaker for part in librispeech._listed_speakers().values() for speaker in part]
    names = [f"{speaker}/7/{speaker}-7-0000.flac" for speaker in speakers]
    return tarred({f"LibriSpeech/train-clean-100/{name}": flac() for name in names})


@pytest.mark.parametrize(
    ("module", "cls"),
    [
        (cifar10, cifar10.CIFAR10),
        (vctk, vctk.VCTK),
        (ljspeech, ljspeech.LJSpeech),
        (libritts, libritts.LibriTTS),
        (librispeech, librispeech.LibriSpeech),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_corpus_is_downloaded_into_its_own_layout(
    module, cls: Callable[..., Corpus], inside: bool, tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "RECORDS", 10)
    monkeypatch.setattr(cifar10, "VALIDATION", 5)
    archive = mirror.offer(module.ARCHIVE, in_own_layout(module))
    monkeypatch.setattr(module, "ARCHIVE", archive)
    root = tmp_path / archive.folder / archive.last if inside and module is not cifar10 else tmp_path
    corpus = cls(str(root), download=True, mirror=mirror.url)
    corpus.validate()
    assert [path.name for path in tmp_path.iterdir()] == [archive.folder]
    assert corpus.fingerprint() == cls(str(tmp_path)).fingerprint()
    assert module.ARCHIVE.checksum.split(":")[0] in ("md5", "sha256")
