"""The contract's hard cases in miniature: a cascade with a quantizer a stage, and a stranger's plug-in in a file."""

import shutil
from pathlib import Path

import pytest
import torch
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.specs.training import Training
from codecbench.benchmark.tracks.base import TestItem, Track
from codecbench.benchmark.training.job import Job
from codecbench.benchmark.training.module import train
from codecbench.codecs.base import Codec, Coded
from codecbench.datamodules.demo import Demo
from codecbench.leaderboards import records
from codecbench.quantizers.base import Maker, Quantizer
from codecbench.quantizers.coding.entropy import decode_codes, encode_codes
from codecbench.quantizers.ema_vq import EMAVQ
from codecbench.quantizers.nsvq import NSVQ
from torch import Tensor, nn


class Stage(Codec):
    """A linear codec of 4 channels."""

    domain = "vector"

    def __init__(self, make_quantizer: Maker, share: float) -> None:
        super().__init__()
        self.analysis, self.synthesis = nn.Linear(4, 3), nn.Linear(3, 4)
        self.quantizer = make_quantizer(3, share)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return (self.quantizer,)

    def forward(self, signal: Tensor) -> Coded:
        quantized = self.quantizer(self.analysis(signal.transpose(1, 2)).transpose(1, 2))
        return Coded(self.synthesis(quantized.latents.transpose(1, 2)).transpose(1, 2), (quantized,))

    def decode(self, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        latents = self.quantizer.decode(codes, self.quantizer.draw(codes.shape[0], codes.shape[2]))
        return self.synthesis(latents.transpose(1, 2)).transpose(1, 2)


class Cascade(Codec):
    """Two stages, the second on the residual of the first; each has its share of the rate."""

    domain = "vector"

    def __init__(self, make_quantizer: Maker) -> None:
        super().__init__()
        self.first, self.second = Stage(make_quantizer, 0.75), Stage(make_quantizer, 0.25)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return (*self.first.quantizers, *self.second.quantizers)

    def forward(self, signal: Tensor) -> Coded:
        first = self.first(signal)
        second = self.second(signal - first.signal)
        return Coded(first.signal + second.signal, first.quantized + second.quantized)

    def decode(self, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        first, second = self.split(codes)
        return self.first.decode(first, shape) + self.second.decode(second, shape)


class Vectors(Track):
    """Correlated Gaussian vectors."""

    signal_rate, typical_length = 1.0, 50
    mix = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))

    def training_batch(self, batch_size: int, length: int, generator: object) -> Tensor:
        draws = torch.from_numpy(generator.standard_normal((batch_size, length, 4))).float()
        return (draws @ self.mix).transpose(1, 2)

    def validation_batch(self) -> Tensor:
        import numpy as np

        return self.training_batch(8, 50, np.random.default_rng(0))

    def loss(self, signal: Tensor, decoded: Tensor) -> Tensor:
        return (signal - decoded).square().mean()

    def signals(self, split: str, count: int) -> list[Tensor]:
        return list(self.validation_batch()[:count])

    def test_items(self) -> list:
        return []

    def load(self, item: object) -> TestItem:
        raise LookupError(item)


@pytest.mark.parametrize("method", [NSVQ, EMAVQ])
def test_a_cascade_with_a_quantizer_per_stage_trains_and_codes_through_the_same_runner(
    method: type, tmp_path: Path
) -> None:
    shares = []

    def make(channels: int, share: float) -> Quantizer:
        shares.append(share)
        return method(channels, **method.for_rate(channels, 8 * share))

    torch.manual_seed(0)
    codec, track = Cascade(make), Vectors()
    module = train(codec, Job(track, Training(steps=60, validate_every=20), 0, tmp_path, bar=False))
    assert shares == [0.75, 0.25] and codec.alphabet == (64, 4)
    assert module.curve[-1][1] < 0.5 * float(track.validation_batch().var())
    signal = track.validation_batch()[:1]
    codes = codec.encode(signal)
    codec.fit_tables(codec.encode(track.validation_batch()))
    data = encode_codes(codec, codes)
    assert torch.equal(decode_codes(codec, data, codes.shape[2], "range"), codes)
    torch.testing.assert_close(codec.decode(codes, tuple(signal.shape[1:])), codec(signal).signal)
    assert len(data) * 8 < 50 * 8 + 40


STRANGER = '''
"""Rounding to a grid, by somebody who never saw this repository."""
import torch
from codecbench.quantizers.base import Quantizer, require_finite

class Grid(Quantizer):
    """Rounds every channel to one of `levels` values, two standard deviations either side of 0."""
    paper = "none"

    def __init__(self, channels: int, levels: int = 5) -> None:
        super().__init__(channels)
        self.levels = levels
        self.register_buffer("scale", torch.ones(()))

    @property
    def alphabet(self):
        return (self.levels,) * self.channels

    def fit(self, latents):
        require_finite(latents)
        self.scale.fill_(2 * latents.std().clamp_min(1e-6))

    def encode(self, latents, noise):
        return (((latents.detach() / self.scale).clamp(-1, 1) + 1) / 2 * (self.levels - 1)).round().long()

    def decode(self, codes, noise):
        return (codes.to(self.float_type) / (self.levels - 1) * 2 - 1) * self.scale

    def surrogate(self, latents, noise):
        codes = self.encode(latents, noise)
        return latents + (self.decode(codes, noise) - latents).detach(), codes
'''


def test_a_strangers_quantizer_in_a_file_passes_the_checks_and_runs(tmp_path: Path, capsys) -> None:
    file = tmp_path / "grid.py"
    file.write_text(STRANGER)
    assert main(["check", "--quantizer", "grid", "--plugin", str(file)]) == 0, capsys.readouterr().out
    runs = tmp_path / "runs"
    speech = tmp_path / "speech"
    for split in ("train", "validation", "test"):
        (speech / split / split).mkdir(parents=True)
        shutil.copy(Demo().items(split)[0].path, speech / split / split)
    short = ["--data", "folder", "--data.root", str(speech)]
    short += ["--training.steps", "4", "--training.validate_every", "2", "--quiet", "--output-dir", str(runs)]
    assert main(["run", "--quantizer", "grid", "--quantizer.levels", "3", "--plugin", str(file), *short]) == 0
    (record,) = records.find(runs)
    assert record.spec["quantizer"] == {"name": "grid", "options": {"levels": 3}}
    assert record.rate_kbps["measured"] > 0 and record.codebook["size"] == 15
