"""Cached waveforms: what is kept, crops, memory; and what is remembered of files from an earlier start."""

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from codecbench.datamodules import base
from codecbench.datamodules.base import Item, Recordings, Split
from codecbench.datamodules.demo import Demo
from codecbench.datamodules.errors import DataError
from codecbench.datamodules.music import Music
from codecbench.datamodules.parts import memory
from codecbench.datamodules.parts.memory import FileMemory
from codecbench.datamodules.parts.waveforms import WaveformSet, cached_waveforms

MEGABYTE = 1 << 20


class Recorded(Recordings):
    """Every WAV file of a folder is for training."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def items(self, split: Split) -> list[Item]:
        paths = sorted(self.root.glob("*.wav")) if split == "train" else []
        return [Item(path.stem, path, path.stem) for path in paths]


@pytest.fixture
def corpus(tmp_path: Path) -> Recorded:
    root = tmp_path / "recordings"
    root.mkdir()
    for number, item in enumerate(Demo().items("validation")[:3]):
        soundfile.write(root / f"{number}.wav", Demo().load(item)[: 9_000 + 1_000 * number], 16_000)
    return Recorded(root)


def counted(seen: list[str]):
    """A progress that notes which items were decoded."""

    def progress(items, description):
        for item in items:
            seen.append(item.name)
            yield item

    return progress


def waveforms(*lengths: int) -> WaveformSet:
    """Waveforms whose every sample is 1000 * item + its place."""
    samples = np.concatenate([1000 * item + np.arange(length) for item, length in enumerate(lengths)])
    return WaveformSet([str(item) for item in range(len(lengths))], lengths, samples.astype(np.float32))


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_waveforms_are_those_of_the_corpus_and_decoded_once(corpus: Recorded, tmp_path: Path) -> None:
    seen: list[str] = []
    for _ in range(2):
        found = cached_waveforms(corpus, "train", tmp_path / "cache", counted(seen))
        assert found.names == ["0", "1", "2"] == seen and found.lengths.tolist() == [9_000, 10_000, 11_000]
        for index, item in enumerate(corpus.items("train")):
            np.testing.assert_array_equal(found[index], corpus.load(item))
        assert found[-1].dtype == np.float32 and len(found) == 3
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".json", ".npy"]


def test_rate_level_and_recordings_have_their_own_entries(corpus: Recorded, tmp_path: Path) -> None:
    music = [Music(str(corpus.root), rate) for rate in (44_100, 32_000)]
    sets = [cached_waveforms(one, "train", tmp_path / "cache") for one in (corpus, *music)]
    assert [len(one[0]) for one in sets[1:]] == [30_319, 22_000]  # 11,000 samples at 16 kHz
    corpus.level = -20.0
    louder = cached_waveforms(corpus, "train", tmp_path / "cache")
    np.testing.assert_allclose(louder[0], sets[0][0] * 10**0.25, rtol=1e-5)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 4


def test_a_damaged_entry_is_built_again(corpus: Recorded, tmp_path: Path) -> None:
    cached_waveforms(corpus, "train", tmp_path)
    data = next(tmp_path.glob("*.npy"))
    data.write_bytes(data.read_bytes()[:-4])
    seen: list[str] = []
    assert cached_waveforms(corpus, "train", tmp_path, counted(seen)).lengths.sum() == 30_000
    assert seen == ["0", "1", "2"]


def test_what_cannot_be_kept_or_used_is_named(corpus: Recorded, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"no waveforms can be kept here .*CODECBENCH_CACHE"):
        cached_waveforms(corpus, "train", tmp_path / "file")
    with pytest.raises(DataError, match="the test split holds no recordings"):
        cached_waveforms(corpus, "test", tmp_path / "cache")
    soundfile.write(corpus.root / "1.wav", np.zeros(16_000), 16_000)
    with pytest.raises(DataError, match=r"1\.wav: silent"):
        cached_waveforms(Recorded(corpus.root), "train", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


# -- crops ------------------------------------------------------------------------------------------------------------


def test_a_crop_is_a_contiguous_piece_of_one_waveform() -> None:
    crops = waveforms(70, 120, 90).crops(500, 50, np.random.default_rng(0))
    assert crops.shape == (500, 50) and crops.dtype == np.float32 and crops.flags.c_contiguous
    assert (np.diff(crops, axis=1) == 1).all()
    assert set(crops[:, 0] // 1000) == {0, 1, 2} and crops.max() == 2089


def test_every_position_is_equally_likely_and_short_waveforms_are_followed_by_zeros() -> None:
    crops = waveforms(7, 12, 3, 5).crops(26_000, 5, np.random.default_rng(0))
    starts, counts = np.unique(crops[:, 0], return_counts=True)
    assert starts.tolist() == [0, 1, 2, *range(1000, 1008), 2000, 3000]  # 3 + 8 + 1 + 1
    assert (np.abs(counts - 2000) < 250).all()
    assert crops[crops[:, 0] == 2000][0].tolist() == [2000, 2001, 2002, 0, 0]


def test_the_same_generator_draws_the_same_crops() -> None:
    first, second = (waveforms(50, 60).crops(8, 5, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second)


def resident() -> float:
    """MB of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MEGABYTE


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_an_hour_of_sound_does_not_stay_in_memory(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 60 * 16_000)
    soundfile.write(tmp_path / "r/00.wav", noise, 16_000)
    for number in range(1, 60):
        (tmp_path / f"r/{number:02}.wav").hardlink_to(tmp_path / "r/00.wav")
    corpus = Recorded(tmp_path / "r")
    corpus.load(corpus.items("train")[0])
    before = resident()
    found = cached_waveforms(corpus, "train", tmp_path / "cache")
    built = resident()
    generator = np.random.default_rng(0)
    assert found.lengths.sum() * 4 > 210 * MEGABYTE
    for _ in range(100):
        assert found.crops(32, 16_000, generator).std() > 0
    assert built - before < 40 and resident() - before < 40, (before, built, resident())


# -- what is remembered of files --------------------------------------------------------------------------------------


@pytest.fixture
def remembering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every set of files is worth remembering, at once, in this folder."""
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "remembered"))
    monkeypatch.setattr(memory, "QUICK_BYTES", 0)
    monkeypatch.setattr(memory, "SETTLED_SECONDS", -1.0)
    return tmp_path / "remembered"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were hashed."""
    seen: list[str] = []
    original = base.content_hash
    monkeypatch.setattr(base, "content_hash", lambda path: seen.append(path.stem) or original(path))
    return seen


def test_files_are_hashed_once_until_they_change(corpus: Recorded, remembering: Path, hashed: list[str]) -> None:
    first = corpus.fingerprint()
    assert Recorded(corpus.root).fingerprint() == first and hashed == ["0", "1", "2"]
    data = bytearray((corpus.root / "1.wav").read_bytes())
    data[-1] ^= 1
    status = (corpus.root / "1.wav").stat()
    (corpus.root / "1.wav").write_bytes(data)
    os.utime(corpus.root / "1.wav", ns=(status.st_atime_ns, status.st_mtime_ns))  # as a copy would do
    assert Recorded(corpus.root).fingerprint() != first and hashed == ["0", "1", "2", "1"]
    assert len(list(remembering.iterdir())) == 1


def test_what_is_remembered_is_what_is_there(corpus: Recorded, remembering: Path, hashed: list[str]) -> None:
    first = corpus.fingerprint()
    for path in corpus.root.iterdir():
        path.rename(path.with_name(f"{int(path.stem) + 1}.WAV"))
    for path in corpus.root.iterdir():
        path.rename(path.with_suffix(".wav"))
    assert Recorded(corpus.root).fingerprint() != first
    (corpus.root / "2.wav").unlink()
    (corpus.root / "2.wav").symlink_to(corpus.root / "nowhere")
    with pytest.raises(DataError, match=r"2\.wav: no such file"):
        Recorded(corpus.root).fingerprint()


@pytest.mark.parametrize(
    "content", [b"", b"[1, 2]", b'{"0.wav": 5}', b'{"0.wav": []}', b"\xff\x00", b'{"0.wav": [1, 2, 3']
)
def test_a_damaged_memory_is_none(content: bytes, corpus: Recorded, remembering: Path, hashed: list[str]) -> None:
    first = corpus.fingerprint()
    (file,) = remembering.iterdir()
    file.write_bytes(content)
    assert Recorded(corpus.root).fingerprint() == first and hashed == ["0", "1", "2"] * 2


def test_nothing_fails_where_nothing_can_be_kept(
    corpus: Recorded, remembering: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = corpus.fingerprint()
    monkeypatch.setenv("CODECBENCH_CACHE", str(next(remembering.iterdir())))
    assert Recorded(corpus.root).fingerprint() == first


def test_young_files_and_small_corpora_are_read_again(
    corpus: Recorded, remembering: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SETTLED_SECONDS", 60.0)
    for _ in range(2):
        Recorded(corpus.root).fingerprint()
    monkeypatch.setattr(memory, "SETTLED_SECONDS", -1.0)
    monkeypatch.setattr(memory, "QUICK_BYTES", 1 << 30)
    Recorded(corpus.root).fingerprint()
    assert hashed == ["0", "1", "2"] * 3 and not remembering.exists()


def test_what_was_found_out_before_an_error_is_kept(remembering: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_text("")
    asked: list[str] = []

    def answer(path: Path) -> str:
        asked.append(path.name)
        if path.name == "b":
            raise DataError("b")
        return "fine"

    for _ in range(2):
        with pytest.raises(DataError), FileMemory("question", paths) as remembered:
            for path in paths:
                assert remembered.recall(path, answer) == "fine"
    assert asked == ["a", "b", "b"]
    assert "fine" in json.dumps(json.loads(next(remembering.iterdir()).read_text()))


def test_validation_is_remembered_but_faults_are_found_again(
    corpus: Recorded, remembering: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.validate()
    soundfile.write(corpus.root / "3.wav", np.zeros(16_000), 16_000)
    read: list[str] = []
    original: Callable = base.read_audio
    monkeypatch.setattr(base, "read_audio", lambda path: read.append(path.stem) or original(path))
    for _ in range(2):
        with pytest.raises(DataError, match=r"1 of 4 files cannot be used: .*3\.wav: silent"):
            Recorded(corpus.root).validate()
    assert read == ["3", "3"]


def test_a_cache_in_nobodys_home_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(DataError, match=r"^~nobody-of-this-name/cache: there is no such home folder"):
        cached_waveforms(Demo(), "validation")
