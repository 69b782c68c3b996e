"""Codecs with nothing to train in runs like those of any other codec."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.metrics.intelligibility import vstoi
from codecbench.benchmark.runs import record as recording
from codecbench.benchmark.runs.run import run, run_all
from codecbench.benchmark.specs.grid import make_specs
from codecbench.benchmark.specs.registry import found
from codecbench.codecs.classical.amrwb import AMRWB
from codecbench.codecs.classical.base import ClassicalCodec
from codecbench.codecs.classical.g722 import G722
from codecbench.codecs.classical.mp3 import MP3
from codecbench.datamodules.cochlear.ace import AceConfig, ace
from codecbench.datamodules.demo import Demo
from codecbench.datamodules.folder import Folder
from codecbench.leaderboards import records
from codecbench.leaderboards.tables import sections

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short test utterances, and what a trained codec needs besides."""
    root = tmp_path_factory.mktemp("speech")
    for split, count in (("train", 2), ("validation", 1), ("test", 2)):
        for item in Demo().items(split)[:count]:
            place = root / split / f"{split} voice"
            place.mkdir(parents=True, exist_ok=True)
            waveform, rate = soundfile.read(item.path, stop=RATE)
            soundfile.write(place / item.path.name, waveform, rate)
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))


def benchmark(folder: Path, runs: Path, *words: str) -> int:
    place = ["--data", "folder", "--data.root", str(folder), "--output-dir", str(runs), "--quiet"]
    return main(["run", *words, *place])


TRAINING = ["--training.steps", "2", "--training.validate_every", "2", "--training.batch_size", "2"]


def test_one_grid_of_trained_and_other_codecs(folder: Path, tmp_path: Path, capsys) -> None:
    words = ["--codec", "opus-5ms,frae,g722:bitrate=48,electrocodec-2bit", "--quantizer", "nsvq", *TRAINING]
    assert benchmark(folder, tmp_path, *words) == 0
    made = {record.spec["codec"]["name"]: record for record in records.find(tmp_path)}
    assert set(made) == {"opus-5ms", "frae", "g722", "electrocodec-2bit"}
    assert {record.track for record in made.values()} == {"cochlear"}
    one, trained = made["opus-5ms"], made["frae"]
    assert one.scores.keys() == trained.scores.keys() and one.spec["quantizer"] == {"name": "none", "options": {}}
    assert one.scores["vstoi_uncoded"] == trained.scores["vstoi_uncoded"]
    assert one.rate_kbps["target"] == one.rate_kbps["nominal"] == 24 and made["g722"].rate_kbps["target"] == 48
    assert made["g722"].rate_kbps["measured"] == pytest.approx(48.2, abs=0.2) and one.rate_kbps["missed"]
    assert (
        one.complexity["latency_s"] == pytest.approx(0.005) and made["electrocodec-2bit"].complexity["latency_s"] == 0
    )
    assert "reconstruction" in "".join(made["electrocodec-2bit"].notes)
    place = tmp_path / one.name
    rows = records.read_items(place / "items.csv")
    sizes = {path.stem: path.stat().st_size for path in (place / "bitstreams").iterdir()}
    assert {row["item"]: row["bytes"] for row in rows} == sizes
    bits = 8 * sum(sizes.values())
    assert one.rate_kbps["measured"] == pytest.approx(bits / sum(row["seconds"] for row in rows) / 1000)
    (section,) = sections(records.find(tmp_path))
    assert sorted(cells[1] for cells in section.cells) == sorted(made)
    before = (place / "record.json").stat().st_mtime_ns
    training = {"steps": 2, "validate_every": 2, "batch_size": 2}
    options = {"data": "folder", "data_options": {"root": str(folder)}, "training": training}
    again = run_all("nsvq", ["frae", "opus-5ms"], output_dir=tmp_path, quiet=True, **options)
    assert again[1].hash == one.hash and (place / "record.json").stat().st_mtime_ns == before


def test_one_call_for_one_run_and_another_for_several(folder: Path, tmp_path: Path) -> None:
    options = {"data": "folder", "data_options": {"root": str(folder)}, "output_dir": tmp_path, "quiet": True}
    with pytest.raises(UserError, match="one run, not 2; call run_all"):
        run(codec=["opus-5ms", "opus-20ms"], bitrate=16, **options)
    (record,) = run_all(codec="opus-5ms", bitrate=16, **options)
    assert run(codec="opus-5ms", bitrate=16, **options).hash == record.hash


def test_other_statistics_make_other_intervals_of_the_same_run(folder, tmp_path, monkeypatch) -> None:
    options = {"data": "folder", "data_options": {"root": str(folder)}, "output_dir": tmp_path, "quiet": True}
    before = run(codec="opus-5ms", bitrate=16, **options)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.cbs")}
    monkeypatch.setattr(recording, "statistics_version", lambda: "other")
    monkeypatch.setattr(recording, "bootstrap_mean", lambda values: (float(np.mean(values)), -1.0, 2.0))
    after = run(codec="opus-5ms", bitrate=16, **options)
    assert after.hash == before.hash and after.environment["statistics"] == "other"
    assert after.scores["estoi"][1:3] == (-1.0, 2.0) and after.scores["estoi"].mean == before.scores["estoi"].mean
    assert records.read(tmp_path / before.name / "record.json").scores == after.scores
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.cbs")} == files


def test_waveforms_go_to_the_speech_track_and_a_spec_is_a_config(folder: Path, tmp_path: Path, capsys) -> None:
    assert benchmark(folder, tmp_path, "--codec", "opus-7.5ms", "--bitrate", "16,32") == 0
    low, high = sorted(records.find(tmp_path), key=lambda record: record.rate_kbps["target"])
    assert low.track == high.track == "speech" and low.scores["estoi"].mean < high.scores["estoi"].mean
    assert low.scores["snr"].mean > 0 and {"pesq_wb", "visqol", "vstoi"} <= low.scores.keys()
    assert not low.training and low.seconds["train"] == 0
    labels = [[cells[0].split("\n")[-1], cells[1]] for cells in sections([low, high])[0].cells]
    assert sorted(labels) == [["bitrate=16.0", "opus-7.5ms"], ["bitrate=32.0", "opus-7.5ms"]]
    before = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("record.json"))
    assert main(["run", "--config", str(tmp_path / low.name / "spec.yaml"), "--output-dir", str(tmp_path)]) == 0
    assert "finished before" in " ".join(capsys.readouterr().out.split())
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("record.json")) == before


def test_what_is_heard_is_coded_and_the_clean_reference_is_scored_against(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Folder.load

    def noisy(self: Folder, item: Any) -> np.ndarray:
        clean = load(self, item)
        return clean + 0.05 * np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)

    monkeypatch.setattr(Folder, "load", noisy)
    monkeypatch.setattr(Folder, "reference", load)
    monkeypatch.setattr(Folder, "conditions", lambda self, item: {"snr_db": 1.0})
    corpus = Folder(str(folder))
    record = run(codec="uncoded", codec_options={"track": "cochlear"}, data="folder",
                 data_options={"root": str(folder)}, output_dir=tmp_path, quiet=True)  # fmt: skip
    pairs = [[torch.from_numpy(each(corpus, item))[None] for each in (noisy, load)] for item in corpus.items("test")]
    expected = [float(vstoi(ace(heard), clean, AceConfig())) for heard, clean in pairs]
    assert record.scores["vstoi"].mean == pytest.approx(np.mean(expected), abs=1e-5)
    assert [row["snr_db"] for row in records.read_items(tmp_path / record.name / "items.csv")] == [1.0, 1.0]


def tracks(codec: str, **options: Any) -> list[str]:
    return [s.codec.options["track"] for s in make_specs(codec=codec, **options) if "track" in s.codec.options]


def test_baselines_go_where_the_others_are() -> None:
    assert tracks("opus") == tracks("opus,g722")[:1] == ["speech"]
    assert tracks("frae,opus") == tracks("electrocodec,opus")[1:] == ["cochlear"]
    assert tracks("frae,seanet-small,opus") == ["cochlear", "speech"] and tracks("seanet-small,opus") == ["speech"]
    assert tracks("frae,opus:track=speech") == ["speech"] and tracks("opus", codec_options={"track": "cochlear"}) == [
        "cochlear"
    ]
    assert tracks("frae,electrocodec,uncoded") == ["cochlear", "cochlear"]


def test_rates_are_those_of_each_codec() -> None:
    def asked(codec: str, bitrate: Any = None) -> list[float | None]:
        return [spec.bitrate for spec in make_specs(codec=codec, bitrate=bitrate)]

    assert asked("opus,g722,mp3,electrocodec") == [24, 64, 32, None]
    assert asked("opus", "16,24") == [16, 24] and asked("opus,electrocodec", "16,24") == [16, 24, None]
    assert asked("opus,g722:bitrate=[48,64]", "6.5") == [6.5, 48, 64]
    assert [spec.seed for spec in make_specs(codec="opus", seed="1,2")] == [0]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--codec g722 --bitrate 16", "g722 has no 16 kbit/s; it has 48, 56, 64 kbit/s"),
        ("--codec g722,opus --bitrate 16", "g722 has no 16 kbit/s; it has 48, 56, 64 kbit/s; g722:bitrate=KBPS gives"),
        ("--codec opus-5ms --bitrate 5", "opus-5ms has no 5 kbit/s; it has every one from 6 to 64 kbit/s"),
        ("--codec electrocodec --bitrate 12", "its rate follows from the signal and its options; leave --bitrate out"),
        ("--codec mp3 --bitrate 320", "mp3: has no 320 kbit/s at 16000 Hz; there it has 8, 16, 24, 32"),
        ("--codec opus --codec.frame_ms 7", "opus: frame_ms=7 is no length of its frames; write 2.5, 5, 10 or 20"),
        ("--codec opus-5ms --codec.frame_ms 5", "opus-5ms stands for frame_ms=2.5"),
        ("--codec opus --codec.application music", "must be one of ['lowdelay', 'voip']"),
        ("--codec opus --quantizer nsvq", "opus has no quantizer and is not trained; leave --quantizer out"),
        ("--codec opus --training.steps 5", "opus has no quantizer and is not trained; leave --training out"),
        ("--codec electrocodec --codec.track speech", "cannot be scored on the track 'speech'"),
        ("--codec opus --codec.track audio", "'audio'; there are, with these data: cochlear, speech"),
        ("--codec opus --codec.track film", "no track 'film'"),
        ("--codec opsu", "no codec is called 'opsu'; did you mean opus?"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(words: str, line: str, folder: Path, tmp_path: Path, capsys) -> None:
    assert benchmark(folder, tmp_path, *words.split()) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1 and not list(tmp_path.rglob("*.cbs"))


def test_data_without_sound_or_at_another_rate_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="opus needs speech or music, toy holds vector"):
        run(codec="opus", data="toy", output_dir=tmp_path, quiet=True)
    for codec in (G722(), AMRWB()):
        with pytest.raises(ValueError, match="takes sound at 16000 Hz, not at 44100 Hz; choose other data"):
            codec.check(44_100)
    MP3(320.0).check(44_100)


def test_trained_codecs_are_listed_apart(capsys) -> None:
    assert not {"opus", "g722", "base", "ffmpeg", "checks"} & found("codecs").keys()
    assert set(found("classical")) == {"amrwb", "electrocodec", "g722", "mp3", "opus", "uncoded"}
    assert main(["ls", "codecs"]) == 0
    _, _, after = capsys.readouterr().out.partition("codecs with nothing to train")
    assert all(name in after for name in found("classical")) and "frae" not in after and "opus-7.5ms" in after


def test_a_class_of_ones_own_is_a_codec_like_the_built_in_ones(folder: Path, tmp_path: Path) -> None:
    class Halved(ClassicalCodec):
        """Eight bits a sample."""

        def __init__(self, bitrate: float | None = None, track: Any = None) -> None:
            super().__init__(bitrate, track)

        def encode(self, signal: np.ndarray, rate: float) -> bytes:
            return np.clip(np.round(signal * 128), -128, 127).astype(np.int8).tobytes()

        def decode(self, payload: bytes, length: int, rate: float) -> np.ndarray:
            return np.frombuffer(payload, np.int8).astype(np.float32) / 128

        def latency_s(self, rate: float) -> float:
            return 0.0

    options: dict[str, Any] = {"data": "folder", "data_options": {"root": str(folder)}, "quiet": True}
    record = run(codec=Halved, output_dir=tmp_path, **options)
    assert record.track == "speech" and record.rate_kbps["payload"] == pytest.approx(128)
    assert record.scores["snr"].mean > 15
