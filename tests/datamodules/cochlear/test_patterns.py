"""Pattern sets and their cache: crops, damaged entries, two processes at once, a process killed while writing."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codecbench.datamodules.base import Item, Recordings, Split
from codecbench.datamodules.cochlear.ace import BANDS, UNSELECTED, AceConfig, ace
from codecbench.datamodules.cochlear.patterns import PatternSet, cached_patterns
from codecbench.datamodules.errors import DataError

SPAWN = multiprocessing.get_context("spawn")


class Tones(Recordings):
    """Three recordings of 0.6, 0.7 and 0.8 s in the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def items(self, split: Split) -> list[Item]:
        paths = sorted(self.root.glob("*.wav")) if split == "train" else []
        return [Item(path.stem, path, path.stem) for path in paths]


@pytest.fixture
def corpus(tmp_path: Path) -> Tones:
    root = tmp_path / "recordings"
    root.mkdir()
    generator = np.random.default_rng(0)
    for number, seconds in enumerate((0.6, 0.7, 0.8)):
        soundfile.write(root / f"{number}.wav", generator.normal(0, 0.1, int(seconds * 16_000)), 16_000)
    return Tones(root)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def counted(seen: list[str]):
    """A progress that notes which items were computed."""

    def progress(items: Iterable[Item], description: str) -> Iterator[Item]:
        for item in items:
            seen.append(item.name)
            yield item

    return progress


def is_whole(patterns: PatternSet, corpus: Recordings, config: AceConfig = AceConfig()) -> bool:  # noqa: B008
    items = corpus.items("train")
    fresh = [ace(torch.from_numpy(corpus.load(item))[None], config)[0].numpy() for item in items]
    same = all(np.array_equal(pattern, found) for pattern, found in zip(fresh, patterns, strict=True))
    return same and patterns.names == [item.name for item in items]


def rows(*lengths: int) -> PatternSet:
    """Patterns whose every frame holds 100 * item + frame in all bands."""
    frames = np.concatenate([100 * item + np.arange(length) for item, length in enumerate(lengths)])
    return PatternSet([str(i) for i in range(len(lengths))], lengths, np.repeat(frames[:, None], BANDS, 1).astype("f4"))


def test_patterns_are_those_of_ace(corpus: Tones, cache: Path):
    patterns = cached_patterns(corpus, "train", AceConfig(), cache)
    assert is_whole(patterns, corpus)
    assert len(patterns) == 3 and patterns.lengths.tolist() == [534, 623, 712] and patterns.total_frames == 1869
    assert patterns[-1].shape == (BANDS, 712) and patterns[0].dtype == np.float32
    with pytest.raises(IndexError):
        patterns[3]


def test_the_second_call_reads_what_the_first_one_kept(corpus: Tones, cache: Path):
    seen: list[str] = []
    cached_patterns(corpus, "train", AceConfig(), cache, counted(seen))
    assert seen == ["0", "1", "2"]
    again = cached_patterns(corpus, "train", AceConfig(), cache, counted(seen))
    assert seen == ["0", "1", "2"] and is_whole(again, corpus)
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".npy"]


def test_every_parameter_and_every_recording_has_its_own_entry(corpus: Tones, cache: Path):
    changes = {"gain_db": 20.0, "pre_emphasis": False, "envelope": "vector", "maxima": 12, "hop": 16}
    changes |= {"base_level": 0.01, "saturation_level": 1.0, "q": 25.0}
    assert changes.keys() == AceConfig.__dataclass_fields__.keys()
    cached_patterns(corpus, "train", AceConfig(), cache)
    for name, value in changes.items():
        config = replace(AceConfig(), **{name: value})
        assert is_whole(cached_patterns(corpus, "train", config, cache), corpus, config)
    assert len(list(cache.glob("*.npy"))) == 9
    soundfile.write(corpus.root / "2.wav", np.random.default_rng(1).normal(0, 0.1, 12_800), 16_000)
    changed = Tones(corpus.root)
    assert is_whole(cached_patterns(changed, "train", AceConfig(), cache), changed)


def test_the_environment_names_the_folder(corpus: Tones, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CODECBENCH_CACHE", str(cache))
    cached_patterns(corpus, "train", AceConfig())
    assert len(list(cache.iterdir())) == 2


def cut_short(data: Path, index: Path) -> None:
    os.truncate(data, data.stat().st_size - 4)


def emptied(data: Path, index: Path) -> None:
    data.write_bytes(b"")


def overwritten(data: Path, index: Path) -> None:
    data.write_text("not an array")


def another_array(data: Path, index: Path) -> None:
    np.save(data, np.zeros((1869, BANDS), np.float32))


def another_type(data: Path, index: Path) -> None:
    np.save(data, np.load(data).astype(np.float64))


def without_index(data: Path, index: Path) -> None:
    index.unlink()


def without_data(data: Path, index: Path) -> None:
    data.unlink()


def half_an_index(data: Path, index: Path) -> None:
    index.write_text(index.read_text()[:40])


def a_list_as_index(data: Path, index: Path) -> None:
    index.write_text("[1, 2]")


def another_key(data: Path, index: Path) -> None:
    index.write_text(json.dumps(json.loads(index.read_text()) | {"key": "patterns-0"}))


def other_lengths(data: Path, index: Path) -> None:
    index.write_text(json.dumps(json.loads(index.read_text()) | {"lengths": [534, 623, 711]}))


@pytest.mark.parametrize(
    "damage",
    [
        *(cut_short, emptied, overwritten, another_array, another_type, without_index, without_data, half_an_index),
        *(a_list_as_index, another_key, other_lengths),
    ],
)
def test_a_damaged_or_foreign_entry_is_built_again(damage, corpus: Tones, cache: Path):
    cached_patterns(corpus, "train", AceConfig(), cache)
    damage(next(cache.glob("*.npy")), next(cache.glob("*.json")))
    seen: list[str] = []
    assert is_whole(cached_patterns(corpus, "train", AceConfig(), cache, counted(seen)), corpus)
    assert seen == ["0", "1", "2"]
    assert is_whole(cached_patterns(corpus, "train", AceConfig(), cache, counted(seen)), corpus) and len(seen) == 3


def test_an_interrupted_build_leaves_nothing(corpus: Tones, cache: Path):
    def interrupted(items: Iterable[Item], description: str) -> Iterator[Item]:
        yield next(iter(items))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_patterns(corpus, "train", AceConfig(), cache, interrupted)
    assert list(cache.iterdir()) == []


def test_old_part_files_are_cleared_and_young_ones_left_alone(corpus: Tones, cache: Path):
    cache.mkdir()
    old, young = cache / "patterns-a.npy.1.part", cache / "patterns-a.npy.2.part"
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    cached_patterns(corpus, "train", AceConfig(), cache)
    assert young.exists() and not old.exists()


def build_and_check(root: Path, cache: Path, barrier, answers) -> None:
    """A process that starts when the other one does, and builds at the same time."""
    seen: list[str] = []
    wait = counted(seen)

    def together(items: Iterable[Item], description: str) -> Iterator[Item]:
        for item in wait(items, description):
            barrier.wait(120)
            yield item

    patterns = cached_patterns(Tones(root), "train", AceConfig(), cache, together)
    answers.put((is_whole(patterns, Tones(root)), len(seen)))


def build_and_hang(root: Path, cache: Path, reached) -> None:
    """A process that stops for ever after two of three recordings."""

    def hang(items: Iterable[Item], description: str) -> Iterator[Item]:
        for item in items:
            if item.name == "2":
                reached.set()
                time.sleep(600)
            yield item

    cached_patterns(Tones(root), "train", AceConfig(), cache, hang)


@pytest.mark.slow
def test_two_processes_at_once_both_get_whole_patterns(corpus: Tones, cache: Path):
    barrier, answers = SPAWN.Barrier(2), SPAWN.Queue()
    arguments = (corpus.root, cache, barrier, answers)
    processes = [SPAWN.Process(target=build_and_check, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    assert [answers.get(timeout=120) for _ in processes] == [(True, 3)] * 2
    for process in processes:
        process.join()
    seen: list[str] = []
    assert is_whole(cached_patterns(corpus, "train", AceConfig(), cache, counted(seen)), corpus) and not seen
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".npy"]


@pytest.mark.slow
def test_what_a_killed_process_leaves_is_never_read(corpus: Tones, cache: Path):
    reached = SPAWN.Event()
    process = SPAWN.Process(target=build_and_hang, args=(corpus.root, cache, reached))
    process.start()
    assert reached.wait(120)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert [path.suffix for path in cache.iterdir()] == [".part"]
    seen: list[str] = []
    assert is_whole(cached_patterns(corpus, "train", AceConfig(), cache, counted(seen)), corpus)
    assert seen == ["0", "1", "2"]


def test_a_crop_is_a_contiguous_piece_of_one_pattern():
    crops = rows(7, 12, 9).crops(200, 5, np.random.default_rng(0))
    assert crops.shape == (200, BANDS, 5) and crops.dtype == np.float32 and crops.flags.c_contiguous
    assert (np.diff(crops, axis=2) == 1).all()  # never across two patterns
    assert (crops == crops[:, :1]).all()


def test_every_position_where_a_crop_fits_is_equally_likely():
    crops = rows(7, 12, 3, 5).crops(26_000, 5, np.random.default_rng(0))
    starts, counts = np.unique(crops[:, 0, 0], return_counts=True)
    assert starts.tolist() == [0, 1, 2, *range(100, 108), 200, 300]  # 3 + 8 + 1 + 1
    assert (np.abs(counts - 2000) < 250).all()


def test_a_short_pattern_is_followed_by_unselected_frames():
    crops = rows(3).crops(2, 5, np.random.default_rng(0))
    assert crops[0, 0].tolist() == pytest.approx([0, 1, 2, UNSELECTED, UNSELECTED])


def test_the_same_generator_draws_the_same_crops():
    first, second = (rows(50, 60).crops(8, 5, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second)


def test_an_empty_split_is_named(corpus: Tones, cache: Path):
    with pytest.raises(DataError, match="the test split holds no recordings"):
        cached_patterns(corpus, "test", AceConfig(), cache)


def test_a_folder_that_cannot_be_written_is_named(corpus: Tones, tmp_path: Path):
    taken = tmp_path / "file"
    taken.touch()
    with pytest.raises(DataError, match=r"file: no patterns can be kept here .*CODECBENCH_CACHE"):
        cached_patterns(corpus, "train", AceConfig(), taken)


def test_an_unusable_recording_is_named_and_nothing_is_kept(corpus: Tones, cache: Path):
    soundfile.write(corpus.root / "1.wav", np.zeros(16_000), 16_000)
    with pytest.raises(DataError, match=r"1\.wav: silent"):
        cached_patterns(corpus, "train", AceConfig(), cache)
    assert list(cache.iterdir()) == []
