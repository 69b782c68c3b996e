"""The measurements of speed: nothing is timed whose sides differ, and each prints its table."""

import inspect
from importlib import import_module

import pytest
import torch
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.cli.speed import MEASUREMENTS
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.speed import scoring, spsa, stoi, streaming
from codecbench.benchmark.speed import vector_quantizers as vectors
from codecbench.benchmark.speed.harness import SidesDifferError, cuts, in_turn, within
from codecbench.datamodules.cochlear.ace import ace


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> list[list[str]]:
    assert main(["speed", *words]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


# -- what all have in common ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_the_command_takes_what_the_measurement_takes(name: str) -> None:
    measure = import_module(f"codecbench.benchmark.speed.{name}").measure
    assert list(inspect.signature(measure).parameters) == list(MEASUREMENTS[name][1])


def test_sides_take_turns_and_every_call_is_timed() -> None:
    calls, clock = [], iter(range(0, 100, 5))
    sides = {name: lambda name=name: calls.append(name) for name in ("a", "b")}
    assert in_turn(sides, 3, lambda: float(next(clock))) == {"a": [5.0] * 3, "b": [5.0] * 3}
    assert calls == ["a", "b"] * 3


def test_a_difference_must_be_within_its_limit() -> None:
    assert within(0.5, 0.5, "they differ") == 0.5
    for difference in (0.6, float("nan")):
        with pytest.raises(SidesDifferError, match=r"^they differ by .*, more than 5e-01"):
            within(difference, 0.5, "they differ")


def test_speech_that_does_not_last_is_refused() -> None:
    assert cuts(None, 2, 0.5).shape == (2, 8000)
    with pytest.raises(UserError, match=r"1 x 1e\+06 s of speech are needed; .* lasts \d+ s"):
        cuts(None, 1, 1e6)


# -- nothing is timed whose sides differ ------------------------------------------------------------------------------


def test_scores_of_stoi_that_differ_are_refused() -> None:
    clean, noisy = stoi.speech(None, 2)
    assert clean.shape == (2, 48_000)
    assert stoi.compare(clean, noisy, torch.float64) < 1e-10
    assert stoi.compare(clean, noisy, torch.float32) < 1e-6
    with pytest.raises(SidesDifferError, match="differ from pystoi's by"):
        stoi.compare(clean, noisy, torch.float64, limit=0.0)


def test_no_other_score_of_a_test_set_passes() -> None:
    scores = dict.fromkeys(scoring.NAMES, 1.0)
    assert set(scoring.compare([scores], [scores]).values()) == {0}
    for name, off in (("visqol", 1e-9), ("stoi", 2e-6), ("pesq_wb", float("nan"))):
        with pytest.raises(SidesDifferError, match=name):
            scoring.compare([scores | {name: 1 + off}], [scores])


def test_losses_of_spsa_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spsa, "PAIRS", 1)
    clean = cuts(None, 2, 0.6)
    pattern = ace(clean)
    codec, variants = spsa.case("kmeans_vq", pattern)
    assert spsa.difference(codec, variants, pattern, clean) < 1e-9
    with pytest.raises(SidesDifferError, match="losses differ by"):
        spsa.difference(codec, variants, pattern, clean, limit=-1.0)


@pytest.mark.parametrize("name", ["stft-small", "seanet-small"])
def test_streams_that_differ_are_refused(name: str) -> None:
    signal = cuts(None, 1, 0.4, "train")
    codec = streaming.build(name, signal)
    assert streaming.compare(codec, signal) <= 1e-5
    with pytest.raises(SidesDifferError, match=r"samples differ by .*, more than -1e"):
        streaming.compare(codec, signal, limit=-1.0)
    codec.encode = lambda sound: torch.zeros(1, 10, 20)
    with pytest.raises(SidesDifferError, match="codes of 200 differ between stream and whole file"):
        streaming.compare(codec, signal)


@pytest.mark.parametrize("stages", [0, 3])
def test_ema_steps_equal_those_of_a_common_library(stages: int) -> None:
    pytest.importorskip("vector_quantize_pytorch")
    case = vectors.Case("small", 4, 30, 64, stages, 1)
    sides = {name: make(case, *vectors.inputs(case)) for name, make in vectors.SIDES.items()}
    for _ in range(3):  # codes, values, losses, codebooks; SidesDifferError where they differ
        assert vectors.compare(case, sides) == 1.0


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_frame_loop_prints_a_line_for_every_shape(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("codecbench.benchmark.speed.frame_loop.SHAPES", ((1, 20), (2, 10)))
    header, first, second = printed(capsys, "frame_loop", "--quantizer", "nsvq", "--rounds", "1")
    assert header[0] == "quantizer" and first[:4] == ["nsvq", "1", "x", "20"] and second[:4] == ["nsvq", "2", "x", "10"]
    assert float(first[-1]) < 1e-9


def test_spsa_prints_a_line_for_every_quantizer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(spsa, "PAIRS", 1)
    lines = printed(capsys, "spsa", *["--quantizer", "kmeans_vq", "--batch", "1", "--seconds", "0.6", "--rounds", "1"])
    assert lines[0][:2] == ["1", "pairs,"] and lines[2][:2] == ["kmeans_vq", "1"]


def test_stoi_prints_a_line_for_every_dtype_and_batch(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "stoi", "--batch", "1,2", "--rounds", "1")
    assert [line[:2] for line in lines[2:]] == [[d, n] for d in ("float32", "float64") for n in ("1", "2")]


def test_streaming_prints_a_line_for_every_codec(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "streaming", *["--codec", "seanet-small,stft-small", "--seconds", "0.1", "--rounds", "1"])
    assert [line[0] for line in lines] == ["codec", "seanet-small", "stft-small"]
    assert all(float(number) >= 0 for line in lines[1:] for number in line[1:])


@pytest.mark.slow
def test_vector_quantizers_print_a_line_for_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("vector_quantize_pytorch")
    lines = printed(capsys, "vector_quantizers", "--case", "ema", "--rounds", "1")
    assert lines[-1][0] == "EMA-VQ" and all(float(megabytes) > 0 for megabytes in lines[-1][-2:])


@pytest.mark.slow
def test_scoring_prints_differences_and_times(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speed", "scoring", "--items", "3", "--rounds", "1", "--workers", "2"]) == 0
    output = capsys.readouterr().out
    assert "pesq_wb 0.0e+00, visqol 0.0e+00" in output and "ours, with start" in output


def test_sides_that_differ_end_it_with_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stoi, "LIMITS", {torch.float64: 0.0})
    assert main(["speed", "stoi", "--batch", "1", "--rounds", "1"]) == 1
    assert capsys.readouterr().err.startswith("benchmark: torch.float64: the scores differ from pystoi's by ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("stoy", "argument NAME: invalid choice: 'stoy'"),
        ("stoi --batch 1,x", "argument --batch: 'x' is no whole number from 1 on (see benchmark speed stoi --help)"),
        ("stoi --rounds 0", "argument --rounds: '0' is no whole number from 1 on"),
        ("stoi --data nowhere", "nowhere"),
        ("stoi --quantizer nsvq", "speed has no argument '--quantizer'"),
        ("spsa --seconds nan", "argument --seconds: 'nan' is no positive number of seconds"),
        ("spsa --quantizer nsvk --seconds 1 --batch 1", "no quantizer is called 'nsvk'; did you mean nsvq?"),
        ("streaming --codec nac-small --seconds 0.1", "nac-small cannot be streamed; choose of stft,"),
        ("streaming --seconds 1000", "1 x 1000 s of speech are needed"),
        ("vector_quantizers --case emma", "no case is called 'emma'; did you mean ema? There are: ema, residual"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speed", *words.split()]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"benchmark: {line}") and said.count("\n") == 1
