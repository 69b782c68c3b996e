"""Waveform codecs through the whole runner, in miniature: losses by name, discriminators, interruption, records."""

import io
import shutil
from pathlib import Path
from typing import Any, ClassVar, final

import pytest
import soundfile
import torch
from codecbench.benchmark.cli.ls import _filled, listings
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.losses.adversary import SHORTEST, Adversary
from codecbench.benchmark.metrics import modules
from codecbench.benchmark.metrics.base import METRICS, Metric, declared
from codecbench.benchmark.runs.run import run
from codecbench.benchmark.studies.controls import controls
from codecbench.codecs.base import Codec, Coded
from codecbench.codecs.checks import run_checks
from codecbench.datamodules.demo import Demo
from codecbench.leaderboards import records
from codecbench.leaderboards.tables import markdown_table
from codecbench.quantizers.base import Maker, Quantizer
from codecbench.quantizers.fem import FEM
from codecbench.quantizers.identity import Identity
from codecbench.quantizers.nsvq import NSVQ
from rich.console import Console
from torch import Tensor, nn

STRIDE = 320
SHORT = {"steps": 8, "validate_every": 4, "batch_size": 2, "crop_seconds": 0.2}


@final
class Lapped(Codec):
    """A linear transform of 20 ms blocks without overlap."""

    domain = "waveform"
    causal = True
    stride = STRIDE
    lookahead = STRIDE - 1
    default_bitrate = 2.0
    training_options: ClassVar[dict[str, Any]] = {"losses": {"time": 1.0, "mel": 0.01}, "learning_rate": 1e-3}

    def __init__(self, make_quantizer: Maker, channels: int = 8) -> None:
        super().__init__()
        self.analysis = nn.Conv1d(1, channels, STRIDE, STRIDE)
        self.synthesis = nn.ConvTranspose1d(channels, 1, STRIDE, STRIDE)
        self.quantizer = make_quantizer(channels, 1.0)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return (self.quantizer,)

    def forward(self, signal: Tensor) -> Coded:
        padded = nn.functional.pad(signal, (0, -signal.shape[-1] % STRIDE))
        quantized = self.quantizer(self.analysis(padded[:, None]))
        return Coded(self.synthesis(quantized.latents)[:, 0, : signal.shape[-1]], (quantized,))

    def decode(self, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        latents = self.quantizer.decode(codes, self.quantizer.draw(codes.shape[0], codes.shape[2]))
        return self.synthesis(latents)[:, 0, : shape[-1]]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("speech")
    for split, count in (("train", 3), ("validation", 1), ("test", 2)):
        for item in Demo().items(split)[:count]:
            place = root / split / f"{split} voice"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(item.path, place)
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))


def once(speech: Path, runs: Path, quantizer: Any = NSVQ, **training: Any):
    options = {"data": "folder", "data_options": {"root": str(speech)}, "training": {**SHORT, **training}}
    return run(quantizer, Lapped, output_dir=runs, quiet=True, **options)


def test_the_miniature_keeps_the_contract() -> None:
    quantized = lambda channels, share: NSVQ(channels, codebook_bits=4)  # noqa: E731
    assert [each.name for each in run_checks(Lapped, quantized) if not each.passed] == []


@pytest.mark.pictures
def test_a_waveform_run_leaves_scores_bitstreams_and_things_to_hear(speech: Path, tmp_path: Path) -> None:
    record = once(speech, tmp_path)
    assert record.track == "speech" and record.spec["training"]["losses"] == {"time": 1.0, "mel": 0.01}
    intelligibility = {"stoi", "estoi", "vstoi", "vstoi_uncoded", "dvstoi", "pesq_wb", "visqol"}
    distances = {"peak_snr", "nmr", "two_f", "log_spectral_distance", "mel_distance"}
    expected = intelligibility | distances | {"snr", "si_sdr", "segmental_snr", "weighted_snr"}
    assert set(record.scores) == expected and list(record.scores) == [m for m in METRICS if m in expected]
    assert all(score.n == 2 and score.failed == 0 for score in record.scores.values())
    examples = tmp_path / record.name / "examples"
    decoded = next(examples.glob("*.decoded.wav"))
    info = soundfile.info(decoded)
    assert info.samplerate == 16_000 and info.frames == soundfile.info(str(decoded).replace("decoded", "clean")).frames
    assert [path.read_bytes()[:4] for path in examples.glob("*.png")] == [b"\x89PNG"] * 2
    assert record.rate_kbps["measured"] > 0.25 and record.complexity["latency_s"] == pytest.approx(319 / 16000)
    assert not any("vocoded" in note for note in record.notes)


def test_a_metric_added_in_one_place_is_everywhere(speech: Path, tmp_path: Path, monkeypatch) -> None:
    def peak_error(reference: Tensor, decoded: Tensor) -> Tensor:
        return (decoded - reference).abs().amax(1)

    title = "Largest error of a sample"
    metric = Metric("peak_error", "", False, 16_000, title, peak_error, ("speech",), ("speech",), "PeakE")
    monkeypatch.setitem(declared(), "peak_error", metric)
    record = once(speech, tmp_path)
    folder = tmp_path / record.name
    errors = [row["peak_error"] for row in records.read_items(folder / "items.csv")]
    assert record.scores["peak_error"].mean == pytest.approx(sum(errors) / 2) and min(errors) > 0
    assert "| PeakE ↓ |" in markdown_table([records.read(folder / "record.json")])
    console = Console(file=io.StringIO(), width=200)
    console.print(*map(_filled, listings("metrics")))
    assert title in console.file.getvalue()  # type: ignore[attr-defined]
    mean = modules.PeakError()
    mean.update(torch.ones(2, 8), torch.zeros(2, 8))
    assert mean.compute() == 1 and mean.sample_rate == 16_000 and not mean.higher_is_better
    assert "Largest error" in (mean.__doc__ or "")


@pytest.mark.slow
def test_a_learned_rate_is_met_on_waveforms_too(speech: Path, tmp_path: Path) -> None:
    record = once(speech, tmp_path, FEM, steps=60, validate_every=60, learning_rate=3e-3)
    (trial,) = record.training["rate_search"][-1:]
    assert record.spec["bitrate"] == 2.0 and trial["kbps"] == pytest.approx(2.0, rel=0.01)


def test_an_unknown_or_missing_loss_is_one_line(speech: Path, tmp_path: Path) -> None:
    for losses, line in (
        ({"tme": 1.0}, "no loss is called 'tme'"),
        ({}, "at least one loss"),
        ({"mel": -1}, "positive"),
    ):
        with pytest.raises(UserError, match=line):
            once(speech, tmp_path, losses=losses)


def test_data_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs speech or music, toy holds vector"):
        run(NSVQ, Lapped, data="toy", output_dir=tmp_path, training=SHORT, quiet=True)


ADVERSARIAL = {"adversarial_weight": 1.0, "adversarial_from": 0.5, "discriminator_channels": 4}


@pytest.mark.parametrize(
    ("codec", "options", "line"),
    [
        (Lapped, {"crop_seconds": 31 / 16_000}, "gives crops of 31 samples, discriminators need 32: at least 0.002"),
        (Lapped, {"discriminator_channels": 6}, "discriminator_channels=6 must be a multiple of 4"),
        ("frae", {}, "discriminators judge waveforms, and FRAE codes none; leave out --training.adversarial_weight"),
    ],
)
def test_discriminators_that_cannot_be_are_refused_in_one_line(
    codec: Any, options: dict[str, Any], line: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refusal:
        run(Identity, codec, data="demo", training=ADVERSARIAL | options, output_dir=tmp_path, quiet=True)
    assert line in str(refusal.value) and "\n" not in str(refusal.value) and not list(tmp_path.iterdir())


def test_discriminators_see_the_shortest_crop_there_may_be() -> None:
    adversary, crop = Adversary(4, 1e-4), torch.randn(2, SHORTEST)
    assert adversary.learn(crop, crop).isfinite()
    with pytest.raises(RuntimeError):
        adversary.learn(crop[:, 1:], crop[:, 1:])


def test_discriminators_enter_after_a_warm_up_and_change_the_codec(speech: Path, tmp_path: Path) -> None:
    plain, late, judged = (
        once(speech, tmp_path, **options) for options in ({}, ADVERSARIAL | {"adversarial_from": 1.0}, ADVERSARIAL)
    )
    curves = [record.training["curve"]["validation_loss"] for record in (plain, late, judged)]
    assert curves[0] == curves[1] and curves[0][0] == curves[2][0] and curves[0][-1] != curves[2][-1]


@pytest.mark.slow
def test_an_interrupted_adversarial_run_ends_with_the_same_numbers(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = once(speech, tmp_path / "whole", **ADVERSARIAL, steps=12, validate_every=8)
    learn, calls = Adversary.learn, []

    def interrupted(self: Adversary, clean: Tensor, decoded: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 4:  # the discriminators entered after 6 steps; the checkpoint is that of step 8
            raise KeyboardInterrupt
        return learn(self, clean, decoded)

    monkeypatch.setattr(Adversary, "learn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        once(speech, tmp_path / "cut", **ADVERSARIAL, steps=12, validate_every=8)
    monkeypatch.undo()
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    resumed = once(speech, tmp_path / "cut", **ADVERSARIAL, steps=12, validate_every=8)
    assert len(calls) == 4
    assert resumed.scores == whole.scores and resumed.training["curve"] == whole.training["curve"]


def test_identity_trains_the_bare_codec(speech: Path, tmp_path: Path) -> None:
    options = {"steps": 120, "validate_every": 5, "learning_rate": 3e-3, "losses": {"time": 1.0}}
    record = once(speech, tmp_path, Identity, **options)
    losses = record.training["curve"]["validation_loss"]
    assert losses[-1] < 0.85 * losses[0] and record.scores["snr"].mean > 0.5


@pytest.mark.slow
def test_loader_processes_change_no_number(speech: Path, tmp_path: Path) -> None:
    alone, helped = (once(speech, tmp_path / str(workers), workers=workers) for workers in (0, 1))
    assert alone.training["curve"] == helped.training["curve"] and alone.scores == helped.scores


def test_controls_tell_codes_that_matter(speech: Path, tmp_path: Path) -> None:
    record = once(speech, tmp_path)
    decoded, shuffled, untrained = controls(tmp_path / record.name)
    assert decoded == pytest.approx(record.scores["estoi"].mean, abs=1e-4)
    assert decoded != shuffled and decoded != untrained
    with pytest.raises(UserError, match="no run"):
        controls(tmp_path / "elsewhere")


def test_weights_that_are_not_there_are_missed_before_training(speech: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CODECBENCH_NOMAD", str(tmp_path / "none"))
    with pytest.raises(UserError, match="CODECBENCH_NOMAD"):
        once(speech, tmp_path / "runs")
    assert not list((tmp_path / "runs").glob("*/checkpoints"))


def test_the_best_model_is_kept_where_asked(speech: Path, tmp_path: Path) -> None:
    options = SHORT | {"steps": 12, "validate_every": 2, "learning_rate": 0.3}
    best, last = (
        run(NSVQ, Lapped, data="folder", training=options | kept,
            data_options={"root": str(speech)}, output_dir=tmp_path / str(number), quiet=True)
        for number, kept in enumerate(({"keep": "best"}, {}))
    )  # fmt: skip
    assert best.training["curve"] == last.training["curve"]
    losses = [x for x, quantized in zip(best.training["curve"]["validation_loss"], best.training["curve"]["quantized"],
                                        strict=True) if quantized]  # fmt: skip
    assert min(losses) < losses[-1]  # or this shows nothing
    assert best.scores["snr"] > last.scores["snr"]


def test_bfloat16_trains_and_scores_in_float32(speech: Path, tmp_path: Path) -> None:
    records = [
        run(NSVQ, Lapped, data="folder", training=SHORT | {"precision": precision}, data_options={"root": str(speech)},
            output_dir=tmp_path / precision, quiet=True)
        for precision in ("float32", "bfloat16")
    ]  # fmt: skip
    one, other = (record.training["curve"]["validation_loss"] for record in records)
    assert one != other and other == pytest.approx(one, rel=0.1)
