"""Waveform codecs of the published size learn half a second of speech by heart, in at most 100 steps as they train."""

import pytest
import torch
from codecbench.benchmark.losses import LOSSES
from codecbench.benchmark.metrics.intelligibility import stoi
from codecbench.benchmark.specs.registry import found
from codecbench.codecs.base import Codec
from codecbench.datamodules.demo import Demo
from codecbench.quantizers.identity import Identity
from torch import Tensor

RATE, SAMPLES, CLIP = 16_000, 8_000, 1.0
STEPS = {"stft": 80, "seanet": 40, "nac": 100, "resglu": 50}
SNR, ESTOI = 8.0, 0.8  # at the end; dB


def speech() -> Tensor:
    demo = Demo()
    return torch.from_numpy(demo.load(demo.items("test")[0]))[None, RATE : RATE + SAMPLES]


def train(codec: Codec, clean: Tensor, steps: int) -> None:
    recipe = codec.training_options
    terms = [(weight, LOSSES[name](RATE)) for name, weight in recipe["losses"].items()]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.get("optimizer", "adam")]
    optimizer = kind(codec.parameters(), recipe["learning_rate"])
    for _ in range(steps):
        decoded = codec.train()(clean).signal
        optimizer.zero_grad()
        torch.stack([weight * term(clean, decoded) for weight, term in terms]).sum().backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), CLIP)
        optimizer.step()


@torch.no_grad()
def judged(codec: Codec, clean: Tensor) -> tuple[float, float]:
    """SNR in dB and ESTOI."""
    decoded = codec.eval()(clean).signal
    snr = 10 * torch.log10(clean.square().sum() / (clean - decoded).square().sum())
    return float(snr), float(stoi(clean, decoded, RATE, extended=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_the_published_size_learns_one_utterance(name: str) -> None:
    torch.manual_seed(0)
    codec, clean = found("codecs")[name](lambda channels, share: Identity(channels)), speech()
    snr, intelligibility = judged(codec, clean)
    train(codec, clean, STEPS[name])
    learned, intelligible = judged(codec, clean)
    assert learned > max(SNR, snr + 6) and intelligible > max(ESTOI, intelligibility + 0.1)
