"""Reading of recordings, any folder as a corpus, and what bad input is told."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from codecbench.datamodules.base import SPLITS, Recordings, read_audio
from codecbench.datamodules.errors import DataError
from codecbench.datamodules.folder import Folder

RATE = 16_000


def tone(seconds: float = 1.0, amplitude: float = 0.1, frequency: float = 1000.0, rate: int = RATE) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, waveform: np.ndarray | None = None, rate: int = RATE, subtype: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # soundfile itself cannot write names that are not UTF-8
        form = path.suffix[1:].upper()
        soundfile.write(file, tone() if waveform is None else waveform, rate, format=form, subtype=subtype)
    return path


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable(), "one line"
    return message


def splits_of(corpus: Recordings) -> dict[str, set[str]]:
    return {split: {item.speaker for item in corpus.items(split)} for split in SPLITS}


def assert_sound(corpus: Recordings) -> None:
    """What every corpus promises: sorted, the same twice, unique safe names, no speaker in two splits."""
    items = [item for split in SPLITS for item in corpus.items(split)]
    for split in SPLITS:
        assert corpus.items(split) == sorted(corpus.items(split)) != []
    assert len({item.name.casefold() for item in items}) == len(items)
    assert all(item.name and item.name[0] not in ".-" and "/" not in item.name for item in items)
    assert all(item.name.isprintable() and len(item.name.encode()) < 200 for item in items)
    speakers = splits_of(corpus)
    assert sum(len(part) for part in speakers.values()) == len(set.union(*speakers.values()))


# -- files ------------------------------------------------------------------------------------------------------------


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.stack([tone(), 3 * tone()], axis=1), subtype="FLOAT")
    waveform, rate = read_audio(path)
    assert rate == RATE and waveform.dtype == np.float32
    np.testing.assert_allclose(waveform, 2 * tone(), atol=1e-7)


def with_one(value: float) -> np.ndarray:
    signal = tone()
    signal[5000] = value
    return signal


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "silent": (lambda path: write(path, np.zeros(RATE)), "silent"),
    "last bit flickers": (lambda path: write(path, np.arange(RATE) % 2 / 32768), "silent"),
    "constant": (lambda path: write(path, np.full(RATE, 0.5), subtype="FLOAT"), "silent"),
    "opposite channels": (lambda path: write(path, np.stack([tone(), -tone()], axis=1)), "silent"),
    "0.1 s": (lambda path: write(path, tone(0.1)), "only 0.10 s long; at least 0.5 s"),
    "no samples": (lambda path: write(path, np.zeros(0)), "holds no samples"),
    "NaN": (lambda path: write(path, with_one(np.nan), subtype="FLOAT"), "NaN or infinite"),
    "infinite": (lambda path: write(path, with_one(np.inf), subtype="FLOAT"), "NaN or infinite"),
    "no audio": (lambda path: path.write_text("hello\n" * 99), "not readable as audio"),
    "zero bytes": (lambda path: path.write_bytes(b""), "not readable as audio"),
    "odd rate": (lambda path: write(path, np.tile(tone(), 4), rate=100), "sample rate of 100 Hz"),
    "no such file": (lambda path: None, "no such file"),
    "named pipe": (lambda path: os.mkfifo(path), "no such file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_unusable_file_is_named_in_one_line(kind: str, tmp_path: Path) -> None:
    make, reason = BAD[kind]
    make(tmp_path / "bad one.wav")
    for name in ("b", "c", "d"):
        write(tmp_path / f"{name}.wav")
    corpus = Folder(str(tmp_path))
    if kind == "no such file":
        corpus.items("test")
        (tmp_path / "b.wav").rename(tmp_path / "renamed")
        assert "1 of 3 files" in (message := refusal(corpus.validate)) and "b.wav: no such file" in message
        return
    message = refusal(corpus.validate)
    assert "1 of 4 files cannot be used" in message and "bad one.wav: " in message and reason in message
    assert "--data.skip_bad" in message


def test_cut_and_damaged_flac_and_mp3_are_refused(tmp_path: Path) -> None:
    for name in ("a.flac", "b.mp3"):
        whole = write(tmp_path / name, np.random.default_rng(0).normal(0, 0.1, 5 * RATE)).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert name in refusal(lambda name=name: read_audio(tmp_path / name))
    blank = write(tmp_path / "c.flac").read_bytes()
    (tmp_path / "c.flac").write_bytes(blank[:21] + bytes([blank[21] & 0xF0, 0, 0, 0, 0]) + blank[26:])
    assert "does not say how long" in refusal(lambda: read_audio(tmp_path / "c.flac"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    path.chmod(0)
    assert "a.wav: cannot be opened (Permission denied)" in refusal(lambda: read_audio(path))


# -- folder ----------------------------------------------------------------------------------------------------------


def filled(root: Path, *names: str) -> Folder:
    for number, name in enumerate(names):
        write(root / name, tone(0.5, frequency=500 + number))
    return Folder(str(root))


def placed(folder: Folder) -> dict[str, list[str]]:
    return {split: [item.name for item in folder.items(split)] for split in SPLITS}


def test_every_format_rate_and_channel_count_is_read_from_any_depth(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone(rate=8000), 8000)
    write(tmp_path / "b.FLAC", tone(rate=48_000), 48_000)
    write(tmp_path / "c/d/e.ogg", np.stack([tone(rate=44_100)] * 2, axis=1), 44_100)
    write(tmp_path / "f.mp3", tone(rate=22_050), 22_050)
    write(tmp_path / ".hidden/g.wav")
    write(tmp_path / "._a.wav")
    (tmp_path / "notes.txt").write_text("no audio")
    folder = Folder(str(tmp_path))
    assert_sound(folder)
    folder.validate()
    items = {item.name: item for split in SPLITS for item in folder.items(split)}
    assert sorted(items) == ["a", "b", "c__d__e", "f"]
    assert items["c__d__e"].speaker == "c"
    for item in items.values():
        waveform = folder.load(item)
        assert len(waveform) == pytest.approx(RATE, abs=2000)
        spectrum = np.abs(np.fft.rfft(waveform))
        assert abs(spectrum.argmax() * RATE / len(waveform) - 1000) < 2, item.name


def test_sub_folders_are_the_splits(tmp_path: Path) -> None:
    names = ("Train/ann/1.wav", "Train/bob/1.wav", "dev/1.wav", "valid/2.wav", "test/1.wav")
    folder = filled(tmp_path, *names)
    assert_sound(folder)
    assert placed(folder) == {
        "train": ["Train__ann__1", "Train__bob__1"],
        "validation": ["dev__1", "valid__2"],
        "test": ["test__1"],
    }
    assert [item.speaker for item in folder.items("train")] == ["ann", "bob"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("train/1.wav", "test/1.wav"), "has test/ and train/ with audio files but no validation/"),
        (("train/a/1.wav", "dev/b/1.wav", "test/a/2.wav"), "speaker a is in train and test"),
        (("train/1.wav", "dev/1.wav", "test/1.wav", "extra/1.wav"), "1 files lie outside train/"),
        (("1.wav", "2.wav"), "need at least 3 files"),
        (("a/1.wav", "a/2.wav", "a/3.wav", "b/4.wav"), "number of its speakers is 2"),
        ((), "holds no WAV, FLAC, OGG or MP3 file"),
        (("notes.aiff",), "holds no WAV, FLAC, OGG or MP3 file"),
    ],
)
def test_a_folder_that_cannot_be_split_is_refused(names: tuple[str, ...], told: str, tmp_path: Path) -> None:
    message = refusal(lambda: filled(tmp_path, *names).items("test"))
    assert told in message and str(tmp_path) in message


def test_a_missing_root_is_refused(tmp_path: Path) -> None:
    assert "x: cannot be opened (No such file" in refusal(lambda: Folder(str(tmp_path / "x")).items("test"))
    assert "a.wav: cannot be opened (Not a dir" in refusal(lambda: Folder(str(write(tmp_path / "a.wav"))).items("test"))
    assert "cannot be opened (File name too long)" in refusal(lambda: Folder("x" * 999).items("test"))
    assert "no such home folder" in refusal(lambda: Folder("~nobody-of-that-name/x").items("test"))
    assert "--data.root DIR" in refusal(lambda: Folder().items("test"))


def test_speakers_without_splits_are_shared_70_10_20_and_never_divided(tmp_path: Path) -> None:
    folder = filled(tmp_path, *(f"s{speaker}/{number}.wav" for speaker in range(20) for number in range(2)))
    assert_sound(folder)
    assert [len(part) for part in splits_of(folder).values()] == [14, 2, 4]
    assert [len(folder.items(split)) for split in SPLITS] == [28, 4, 8]
    order = sorted((f"s{n}" for n in range(20)), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert splits_of(folder)["validation"] == set(order[:2]) and splits_of(folder)["test"] == set(order[2:6])


def test_one_recording_in_two_formats_stays_in_one_split(tmp_path: Path) -> None:
    folder = filled(tmp_path, *(f"{number}.{form}" for number in range(10) for form in ("wav", "flac")))
    assert_sound(folder)
    assert [len(folder.items(split)) for split in SPLITS] == [14, 2, 4]


def test_hostile_names_work(tmp_path: Path) -> None:
    plain = [
        "a b.wav",
        "a_b.wav",
        "A_b.wav",
        "-rf.wav",
        "--.wav",
        "x..wav",
        "a\nb.wav",
        "caf\u00e9.wav",
        "cafe\u0301.wav",
    ]
    plain += ["日本語 音声.wav", "x/y../z.wav", "$(id);'\".wav", "n" * 250 + ".wav", "語" * 80 + ".wav", "%s{0}.wav"]
    filled(tmp_path, *plain)
    raw = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.wav"))  # not UTF-8
    shutil.copy(tmp_path / "a b.wav", raw)
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    folder = Folder(str(tmp_path))
    assert_sound(folder)
    folder.validate()
    assert sum(len(folder.items(split)) for split in SPLITS) == len(plain) + 1
    assert folder.fingerprint() == Folder(str(tmp_path)).fingerprint()
    raw.write_bytes(b"")
    assert "\\udcff" in refusal(folder.validate)


def test_linked_folders_are_searched_and_broken_links_named(tmp_path: Path) -> None:
    filled(tmp_path / "elsewhere", "1.wav", "2.wav", "3.wav")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "root/a.wav").symlink_to(tmp_path / "elsewhere/1.wav")
    (tmp_path / "root/gone.wav").symlink_to(tmp_path / "nowhere.wav")
    folder = Folder(str(tmp_path / "root"))
    assert sum(len(folder.items(split)) for split in SPLITS) == 5
    assert "gone.wav: no such file" in refusal(folder.validate)
    assert "gone.wav: no such file" in refusal(folder.fingerprint)


def test_skip_bad_leaves_out_and_reports(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path, "1.wav", "2.wav", "3.wav")
    write(tmp_path / "silent.wav", np.zeros(RATE))
    folder = Folder(str(tmp_path), skip_bad=True)
    folder.validate()
    assert sum(len(folder.items(split)) for split in SPLITS) == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"left out: {tmp_path}/silent.wav: silent (below -80 dBFS)"
    ]
    (tmp_path / "1.wav").write_bytes(b"")
    assert "need at least 3" in refusal(lambda: Folder(str(tmp_path), skip_bad=True).items("test"))
    (tmp_path / "2.wav").write_bytes(b"")
    (tmp_path / "3.wav").write_bytes(b"")
    assert "none of the 4 files can be used" in refusal(lambda: Folder(str(tmp_path), skip_bad=True).items("test"))


def test_many_bad_files_are_counted_and_the_first_three_named(tmp_path: Path) -> None:
    filled(tmp_path, *(f"{number}.wav" for number in range(5)))
    for number in range(4):
        write(tmp_path / f"{number}.wav", np.zeros(RATE))
    message = refusal(Folder(str(tmp_path)).validate)
    assert message.startswith("4 of 5 files cannot be used: ") and message.count("silent") == 3


def test_the_fingerprint_sees_contents_names_and_splits_but_not_the_place(tmp_path: Path) -> None:
    one = filled(tmp_path / "one", "train/1.wav", "dev/2.wav", "test/3.wav").fingerprint()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert Folder(str(tmp_path / "two")).fingerprint() == one
    (tmp_path / "two/dev/2.wav").rename(tmp_path / "two/dev/4.wav")
    renamed = Folder(str(tmp_path / "two")).fingerprint()
    (tmp_path / "two/dev").rename(tmp_path / "two/val")
    moved = Folder(str(tmp_path / "two")).fingerprint()
    data = bytearray((tmp_path / "two/train/1.wav").read_bytes())
    data[-100] ^= 1
    (tmp_path / "two/train/1.wav").write_bytes(data)
    assert len({one, renamed, moved, Folder(str(tmp_path / "two")).fingerprint()}) == 4
