"""FreqCodec: the published size, the transform, what an output waits for, the start, learning."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from codecbench.benchmark.losses import LOSSES
from codecbench.benchmark.runs.macs import macs_per_second
from codecbench.benchmark.runs.run import run
from codecbench.codecs.checks import run_checks
from codecbench.codecs.freqcodec import BRANCH, Conv, FreqCodec, ResidualUnit, Spectrogram, TransposedConv
from codecbench.datamodules.demo import Demo
from codecbench.quantizers.base import Maker, Nested
from codecbench.quantizers.fem import FEM
from codecbench.quantizers.identity import Identity
from codecbench.quantizers.nsvq import NSVQ
from codecbench.quantizers.residual import Residual
from torch import Tensor, nn

RATE, STRIDE = 16_000, 320
MAKERS: dict[str, Maker] = {
    "identity": lambda channels, share: Identity(channels),
    "nsvq": lambda channels, share: NSVQ(channels, codebook_bits=4),
    "fem": lambda channels, share: FEM(channels),
    "residual": lambda channels, share: Residual(channels, Nested(NSVQ, {"codebook_bits": 3}), stages=2),
}
TINY = partial(FreqCodec, base=1, latent_dim=4, group=4)


def codec(make: Any = FreqCodec, **options: Any) -> FreqCodec:
    torch.manual_seed(0)
    return make(MAKERS["identity"], **options).eval()


@pytest.fixture(scope="module")
def speech() -> Tensor:
    """1.5 s of a synthetic voice, "1 N"."""
    corpus = Demo()
    return torch.from_numpy(corpus.load(corpus.items("train")[0]))[None, 3200:27200]


# -- size -------------------------------------------------------------------------------------------------------------


def test_it_has_the_published_size() -> None:
    built = codec()
    parameters = sum(p.numel() for p in built.parameters())
    assert parameters / 1e6 == pytest.approx(0.52, rel=0.01)
    assert macs_per_second(built, RATE) / 1e6 == pytest.approx(340, rel=0.01)
    small = codec(**FreqCodec.presets["freqcodec-small"])
    assert sum(p.numel() for p in small.parameters()) == 197_403


def test_parameters_and_operations_by_hand() -> None:
    layers = [(3, 16, 9, 1, 257 * 100), (16, 3, 9, 1, 257 * 100), (256, 64, 7, 1, 50), (64, 256, 7, 1, 50)]
    sizes = ((257, 100, 1), (64, 100, 2), (16, 50, 1), (4, 50, 1))  # bins, frames/s, stride in time
    for c, (bins, frames, step) in zip((16, 32, 64, 128), sizes, strict=True):
        here, below = bins * frames, bins // 4 * frames // step
        unit = [(c, c, 1, c // 16, here), (c, c // 2, 9, max(1, c // 32), here), (c // 2, c, 1, c // 16, here)]
        layers += [*unit, *unit, (c, 2 * c, 16 * step, c // 8, below), (2 * c, c, 16 * step, c // 16, below)]
    parameters = sum(a * b * taps // groups + b for a, b, taps, groups, _ in layers)
    operations = sum(a * b * taps // groups * pixels for a, b, taps, groups, pixels in layers)
    built = codec()
    assert sum(p.numel() for p in built.parameters()) == parameters == 519_731
    assert macs_per_second(built, RATE) == operations == 339_952_000


# -- contract ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["residual", *(pytest.param(m, marks=pytest.mark.slow) for m in ("identity", "nsvq", "fem"))]
)
def test_it_keeps_the_contract(name: str) -> None:
    assert {each.name: each.message for each in run_checks(TINY, MAKERS[name]) if not each.passed} == {}


@pytest.mark.slow
def test_it_keeps_the_contract_at_the_published_size() -> None:
    results = run_checks(FreqCodec, MAKERS["nsvq"])
    assert {each.name: each.message for each in results if not each.passed} == {}


def test_wrong_sizes_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="base=0, latent_dim=64 and group=16 must be positive"):
        codec(base=0)


def test_groups_are_as_large_as_the_channels_allow() -> None:
    odd = codec(base=6, latent_dim=4, group=8)
    found = {layer.groups for layer in odd.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)}
    assert found == {1, 3, 6, 12}  # of 6 to 96 channels
    assert odd(torch.zeros(1, 700)).signal.shape == (1, 700)


@pytest.mark.parametrize("samples", [1, STRIDE - 1, STRIDE, STRIDE + 1, 5 * STRIDE + 7])
def test_signals_of_any_length_come_back_in_their_length(samples: int) -> None:
    built = codec(TINY)
    coded = built(torch.zeros(1, samples))
    assert coded.signal.shape == (1, samples)
    assert coded.quantized[0].codes.shape[2] == built.positions((samples,)) == -(-samples // STRIDE)


def test_an_output_waits_as_long_as_is_said() -> None:
    built = codec(TINY).double()
    built.quantizer.bypass = True
    assert not built.causal and built.lookahead == 5950
    signal = 0.1 * torch.randn(1, 48 * STRIDE, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    out = built(signal).signal
    latest = []
    places = [*range(0, STRIDE, 32), 145, 305]  # the last two: where another frame's window begins
    for sample in (20 * STRIDE + place for place in places):
        (gradient,) = torch.autograd.grad(out[0, sample], signal, retain_graph=True)
        latest.append(int(gradient[0].nonzero().max()) - sample)
    assert max(latest) == built.lookahead


# -- the transform ----------------------------------------------------------------------------------------------------


def test_synthesis_inverts_analysis(speech: Tensor) -> None:
    spectrogram = Spectrogram()
    spectra = spectrogram(speech)
    assert spectra.shape == (1, 257, speech.shape[1] // 160)
    assert torch.allclose(spectrogram.inverse(spectra), speech, atol=1e-6)


def test_analysis_equals_torch_stft(speech: Tensor) -> None:
    padded = nn.functional.pad(speech, (176, 176))  # the first frame's middle is that of the first hop
    window = torch.hann_window(512)
    reference = torch.stft(padded, 512, 160, 512, window, center=False, return_complex=True)
    assert torch.allclose(Spectrogram()(speech), reference / 192**0.5, atol=1e-6)  # 3/8 512 = 192


def test_a_constant_picture_is_an_impulse_in_every_frame() -> None:
    """S^ = 1 in all bins is a sample 0 of the window, whose weight is 0; turned by half a window, its middle."""
    spectra = (1.0 - 2.0 * (torch.arange(257) % 2))[None, :, None].expand(1, 257, 3) * (1 + 0j)
    signal = Spectrogram().inverse(spectra)[0]
    places = torch.tensor([80, 240, 400])
    at = math.cos(math.pi * 160 / 512) ** 2  # Hann, a hop beside its middle
    weights = [1 + at**2, 1 + 2 * at**2, 1 + at**2]
    assert signal[places].tolist() == pytest.approx([192**0.5 / weight for weight in weights], rel=1e-5)
    signal[places] = 0
    assert signal.abs().max() < 1e-5


# -- layers by hand ---------------------------------------------------------------------------------------------------


def test_a_convolution_pads_one_more_before_than_behind() -> None:
    conv = Conv(1, 1, (1, 4))  # 3 frames of zeros: 2 and 1
    nn.init.ones_(conv.conv.weight)
    assert conv(torch.tensor([[[[1.0, 2.0, 4.0]]]])).tolist() == [[[[3, 7, 7]]]]


def test_a_transposed_convolution_cuts_a_stride_and_keeps_extra_bins() -> None:
    conv = TransposedConv(1, 1, (2, 1), groups=1, extra=1)
    conv.conv.weight.data = torch.tensor([[[[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]]]])
    values = torch.tensor([[[[1.0, 0.0], [10.0, 0.0]]]])  # bins 1 2 13 24 30 40, one frame; the first frame is cut
    assert conv(values).shape == (1, 1, 5, 2)
    assert conv(values.flip(3))[0, 0].tolist() == [[2, 0], [13, 0], [24, 0], [30, 0], [40, 0]]


def test_variances_are_kept_at_the_start_and_residual_branches_are_weak() -> None:
    torch.manual_seed(0)
    values = torch.randn(2, 64, 32, 50)
    for layer in (Conv(64, 128, (8, 2), (4, 1), groups=8), TransposedConv(64, 32, (4, 2), groups=2)):
        out = layer(nn.functional.elu(values))[:, :, 2:-2, 2:-2].detach()
        assert float(out.std()) == pytest.approx(1, abs=0.1)
    branch = (ResidualUnit(64, group=16)(values) - values).detach()
    assert float(branch.std()) == pytest.approx(BRANCH, abs=0.03)


@pytest.mark.parametrize("options", [{}, FreqCodec.presets["freqcodec-small"]], ids=["published", "small"])
def test_latents_and_output_start_at_the_scale_of_speech(options: dict[str, Any], speech: Tensor) -> None:
    with torch.no_grad():
        coded = codec(**options)(speech)
    assert 0.3 < coded.quantized[0].source.std() < 3
    assert 0.02 < coded.signal.std() / speech.std() < 2


# -- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        pytest.param({"base": 2, "latent_dim": 16}, 30, id="tiny"),
        pytest.param({}, 40, id="published", marks=pytest.mark.slow),
    ],
)
def test_it_learns_one_utterance(options: dict[str, Any], steps: int, speech: Tensor) -> None:
    built = codec(**options).train()
    terms = [(weight, LOSSES[name](RATE)) for name, weight in FreqCodec.training_options["losses"].items()]
    optimizer = torch.optim.AdamW(built.parameters(), lr=FreqCodec.training_options["learning_rate"])
    losses = []
    for _ in range(steps):
        decoded = built(speech).signal
        loss = torch.stack([weight * term(speech, decoded) for weight, term in terms]).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(built.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.slow
def test_it_runs_and_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    record = run(
        "residual",
        "freqcodec",
        data="demo",
        quantizer_options={"stages": 2, "stage": "nsvq", "stage.codebook_bits": 4},
        codec_options={"base": 2, "latent_dim": 8},
        training={"steps": 16, "validate_every": 8, "batch_size": 2, "crop_seconds": 0.25},
        output_dir=tmp_path,
        quiet=True,
    )
    losses = record.training["curve"]["validation_loss"]
    assert losses[-1] < losses[0]
    assert record.rate_kbps["nominal"] == pytest.approx(0.05 * 8, rel=0.01)  # 50 positions/s of 2 x 4 bit
    assert record.complexity["latency_s"] == 5950 / RATE
