"""Whole runs on a handful of utterances: what they leave behind, how they resume, what they refuse."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import codecbench
import numpy as np
import pytest
import soundfile
import torch
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.specs.training import Training
from codecbench.benchmark.tracks.cochlear import CochlearFrontEnd
from codecbench.benchmark.training.model import load_model
from codecbench.benchmark.training.module import converged
from codecbench.codecs.files.container import BitstreamError
from codecbench.codecs.files.files import decode_file
from codecbench.datamodules.cochlear.ace import AceConfig
from codecbench.datamodules.demo import Demo
from codecbench.leaderboards import records
from codecbench.quantizers.ste_vq import StraightThroughVQ
from filelock import FileLock

SHORT = ["--training.steps", "8", "--training.validate_every", "4", "--training.batch_size", "4"]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four training, two validation and two test utterances."""
    root = tmp_path_factory.mktemp("speech")
    corpus = Demo()
    for split, count in (("train", 4), ("validation", 2), ("test", 2)):
        for number, item in enumerate(corpus.items(split)[:: len(corpus.items(split)) // count][:count]):
            place = root / split / f"voice{split}{number}"
            place.mkdir(parents=True)
            shutil.copy(item.path, place)
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns of one test are not found by another."""
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))


def run(speech: Path, runs: Path, *options: str) -> int:
    return main(["run", "--data", "folder", "--data.root", str(speech), "--output-dir", str(runs), *SHORT, *options])


@pytest.fixture(scope="module")
def finished(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one finished run, to be copied."""
    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODECBENCH_CACHE", str(root / "cache"))
        assert run(speech, root / "runs") == 0
    return root / "runs"


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "runs"))


def only(runs: Path) -> records.Record:
    (record,) = records.find(runs)
    return record


@pytest.mark.pictures
def test_a_run_leaves_a_record_with_everything_beside_it(speech: Path, tmp_path: Path, capsys) -> None:
    assert run(speech, tmp_path) == 0
    record = only(tmp_path)
    folder = tmp_path / record.name
    assert "vstoi" in capsys.readouterr().out.lower()
    rows = records.read_items(folder / "items.csv")
    sizes = [(folder / "bitstreams" / f"{row['item']}.cbs").stat().st_size for row in rows]
    assert [row["bytes"] for row in rows] == sizes and len(rows) == 2
    seconds = sum(row["seconds"] for row in rows)
    assert record.rate_kbps["measured"] == pytest.approx(8 * sum(sizes) / seconds / 1000)
    assert record.rate_kbps["entropy"] < record.rate_kbps["measured"]
    assert record.rate_kbps["nominal"] == pytest.approx(6 * 16 / 18, rel=1e-3)
    assert record.scores["vstoi"].mean == pytest.approx(np.mean([row["vstoi"] for row in rows]))
    assert record.scores["vstoi"].n == 2 and record.complexity["latency_s"] == 0
    assert record.training["converged"] is False
    assert record.environment["visqol"].startswith("speech mode")
    assert {path.suffix for path in (folder / "examples").iterdir()} == {".wav", ".png"}
    pictures = [*(folder / "examples").glob("*.png"), folder / "training.png"]
    assert {path.read_bytes()[:4] for path in pictures} == {b"\x89PNG"}
    assert not list(folder.glob("checkpoints")) and not (tmp_path / "wandb").exists()


def test_the_same_command_finds_the_finished_run_and_force_runs_it_anew(speech: Path, runs: Path, capsys) -> None:
    record = only(runs)
    model = runs / record.name / "model.safetensors"
    before, made = model.read_bytes(), model.stat().st_mtime_ns
    assert run(speech, runs) == 0
    assert "finished before" in capsys.readouterr().out and model.stat().st_mtime_ns == made
    assert run(speech, runs, "--force") == 0
    assert model.stat().st_mtime_ns > made
    assert model.read_bytes() == before  # one seed, the same numbers
    assert only(runs).scores == record.scores


@pytest.mark.slow
def test_a_grid_ends_in_one_table(speech: Path, tmp_path: Path, capsys) -> None:
    grid = ["--quantizer", "nsvq,ste_vq:commitment=0.5", "--codec", "frae,aec", "--seed", "0,1"]
    assert run(speech, tmp_path, *grid) == 0
    assert len(records.find(tmp_path)) == 8
    out = capsys.readouterr().out
    table = out[out.index("dVSTOI") :]
    assert all(word in table for word in ("nsvq", "ste_vq", "frae", "aec"))
    assert (tmp_path / "rate.png").stat().st_size > 1000


def test_the_python_call_takes_classes_and_returns_the_record(speech: Path, tmp_path: Path) -> None:
    training = {"steps": 4, "validate_every": 2, "batch_size": 2}
    record = codecbench.run(
        quantizer=StraightThroughVQ,
        codec="aec",
        data="folder",
        data_options={"root": str(speech)},
        training=training,
        output_dir=tmp_path,
        quiet=True,
    )
    assert record.spec["quantizer"]["name"] == "ste_vq" and record.scores["vstoi"].n == 2


def test_a_bitrate_chooses_the_codebook_and_a_missed_one_is_said(speech: Path, tmp_path: Path) -> None:
    assert run(speech, tmp_path, "--bitrate", "4.0") == 0
    record = only(tmp_path)
    assert record.codebook["size"] == round(2 ** record.training["rate_search"][-1]["bits"])
    assert record.seconds["train"] == pytest.approx(sum(trial["seconds"] for trial in record.training["rate_search"]))
    assert record.rate_kbps["target"] == 4.0
    assert record.rate_kbps["missed"] == (abs(record.rate_kbps["measured"] / 4 - 1) > 0.05)


def test_exported_records_are_read_back_and_serve_the_gate(runs: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    picture = tmp_path / "rate.png"
    assert main(["leaderboard", "--output-dir", str(runs), "--export", str(kept), "--plot", str(picture)]) == 0
    record, copy = only(runs), only(kept)
    assert copy == record and picture.stat().st_size > 1000
    assert records.read_items(records.items_path(copy)) == records.read_items(records.items_path(record))


def test_huffman_files_decode_too(speech: Path, tmp_path: Path) -> None:
    assert run(speech, tmp_path, "--coder", "huffman") == 0
    assert only(tmp_path).rate_kbps["coder"] == "huffman"


def test_a_damaged_or_foreign_file_is_refused_in_one_line(runs: Path) -> None:
    folder = runs / only(runs).name
    file = next((folder / "bitstreams").iterdir())
    codec, data = load_model(folder), file.read_bytes()
    front_end = CochlearFrontEnd(AceConfig())
    assert decode_file(codec, file, front_end.signal_length)[1].shape[0] == 22
    for damaged in (data[:-1], data[:5], data[:-1] + bytes([data[-1] ^ 1]), b""):
        file.write_bytes(damaged)
        with pytest.raises(BitstreamError, match=r"^[^\n]+$"):
            decode_file(codec, file, front_end.signal_length)
    file.write_bytes(data)
    with torch.no_grad():
        next(codec.parameters()).add_(1)
    with pytest.raises(BitstreamError, match="another model"):
        decode_file(codec, file, front_end.signal_length)


KILLED = """
import sys
from codecbench.benchmark.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", ["nsvq", "ema_vq"])
def test_a_killed_run_resumes_to_the_same_numbers(quantizer: str, speech: Path, tmp_path: Path) -> None:
    options = ["--quantizer", quantizer, "--training.warmup", "0.05"]
    options += ["--training.steps", "120", "--training.validate_every", "10", "--training.batch_size", "16"]
    where = ["run", "--data", "folder", "--data.root", str(speech)]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main([*where, *options, "--output-dir", str(whole), "--quiet"]) == 0
    command = [sys.executable, "-c", KILLED, *where, *options, "--output-dir", str(broken), "--quiet"]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while not list(broken.glob("*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not records.find(broken)
    assert main([*where, *options, "--output-dir", str(broken), "--quiet"]) == 0
    models = [next(place.glob("*/model.safetensors")).read_bytes() for place in (whole, broken)]
    assert models[0] == models[1]
    assert only(whole).training["curve"] == only(broken).training["curve"]


@pytest.mark.slow
@pytest.mark.pictures
def test_wandb_logs_offline_when_asked(speech: Path, tmp_path: Path) -> None:
    assert run(speech, tmp_path, "--wandb") == 0
    (log,) = (tmp_path / only(tmp_path).name / "wandb").glob("offline-run-*")
    assert list(log.glob("*.wandb"))


def test_converged_means_flat_before_the_cool_down() -> None:
    training = Training(steps=100, warmup=0.2, cooldown=0.2)  # third quarter (50, 65], last quarter (65, 80]

    def curve(last: float) -> list[tuple[int, float, bool]]:
        return [(40, 9.0, True), (55, 1.0, True), (65, 1.0, True), (70, last, True), (80, last, True), (95, 0.1, True)]

    assert converged(curve(0.99), training)
    assert not converged(curve(0.97), training)
    assert not converged(curve(1.03), training)
    assert not converged([(70, 1.0, True)], training)
    assert not converged([(step, loss, False) for step, loss, _ in curve(1.0)], training)


def spoil(root: Path, kind: str) -> None:
    victim = next((root / "train").rglob("*.flac"))
    audio, rate = soundfile.read(victim)
    victim.unlink()
    if kind == "corrupt":
        victim.write_bytes(b"fLaC" + bytes(200))
    elif kind == "nan":
        soundfile.write(victim.with_suffix(".wav"), np.where(np.arange(len(audio)) == 99, np.nan, audio), rate, "FLOAT")
    else:
        soundfile.write(victim.with_suffix(".wav"), audio[:1600] if kind == "short" else 0 * audio, rate)


def test_unusable_test_data_are_said_before_anything_is_trained(speech: Path, tmp_path: Path, capsys) -> None:
    root = tmp_path / "data"
    shutil.copytree(speech, root)
    victim = next((root / "test").rglob("*.flac"))
    audio, rate = soundfile.read(victim)
    soundfile.write(victim, 0 * audio, rate)
    assert run(root, tmp_path / "runs") == 2
    assert "silent" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.safetensors"))


def test_training_that_diverges_is_one_line(speech: Path, tmp_path: Path, capsys) -> None:
    assert run(speech, tmp_path, "--training.learning_rate", "1e30", "--training.warmup", "0", "--quiet") == 2
    assert "lower --training.learning_rate" in capsys.readouterr().err


def test_a_codec_of_other_bands_than_the_data_is_one_line(speech: Path, tmp_path: Path, capsys) -> None:
    assert run(speech, tmp_path, "--codec.bands", "16", "--quiet") == 2
    assert "bands" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["corrupt", "nan", "short", "silent", "empty", "text", "absent"])
def test_unusable_data_are_one_line_and_exit_code_2(kind: str, speech: Path, tmp_path: Path, capsys) -> None:
    root = tmp_path / "data"
    if kind in ("empty", "text"):
        root.mkdir()
        (root / "notes.txt").write_text("no speech") if kind == "text" else None
    elif kind != "absent":
        shutil.copytree(speech, root)
        spoil(root, kind)
    assert run(root, tmp_path / "runs", "--quiet") == 2
    error = capsys.readouterr().err
    assert error.startswith("benchmark: ") and error.count("\n") == 1 and "Traceback" not in error
    assert not records.find(tmp_path)


def test_two_processes_on_one_run_do_not_mix(speech: Path, runs: Path, capsys) -> None:
    with FileLock(runs / only(runs).name / ".lock"):
        assert run(speech, runs, "--force") == 2
    assert "another process" in capsys.readouterr().err and only(runs).scores


def test_a_place_that_cannot_be_written_is_one_line(speech: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert run(speech, tmp_path / "file" / "runs", "--quiet") == 2
    assert "choose another --output-dir" in capsys.readouterr().err


def test_a_record_is_strict_json(speech: Path, tmp_path: Path) -> None:
    assert run(speech, tmp_path, "--quantizer", "identity") == 0
    text = (tmp_path / only(tmp_path).name / "record.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
