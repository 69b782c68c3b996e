"""The STFT-domain codec: published sizes, the transform, causality to the sample, streaming, learning."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from codecbench.benchmark.losses import LOSSES
from codecbench.benchmark.runs.macs import macs, macs_per_second, recurrent_macs
from codecbench.benchmark.specs.registry import lookup
from codecbench.benchmark.specs.training import Training
from codecbench.codecs.checks import run_checks
from codecbench.codecs.parts.compressed_stft import CompressedSTFT
from codecbench.codecs.parts.streaming import CausalConv, Streamer
from codecbench.codecs.parts.tade import ConvBlock, TADEResBlock
from codecbench.codecs.stft import STFT
from codecbench.datamodules.demo import Demo
from codecbench.quantizers.base import Quantizer
from codecbench.quantizers.checks.running import entropy
from codecbench.quantizers.fem import FEM
from codecbench.quantizers.identity import Identity
from codecbench.quantizers.noise_sq import NoiseSQ
from codecbench.quantizers.nsvq import NSVQ
from torch import nn

RATE, STRIDE = 16_000, 320
TINY: dict[str, Any] = {"channels": [16, 8, 8, 8, 8, 8]}


def psq(channels: int, share: float = 1.0, **options: Any) -> Quantizer:
    """1.5 kbit/s: 10 dimensions of 3 bit."""
    return NoiseSQ(channels, levels=8, dims=10, **options)


def identity(channels: int, share: float = 1.0) -> Quantizer:
    return Identity(channels)


def codec(make: Any = identity, **options: Any) -> STFT:
    torch.manual_seed(0)
    return STFT(make, **options)


@pytest.fixture(scope="module")
def speech() -> torch.Tensor:
    """1.5 s of a synthetic voice, "1 N"."""
    corpus = Demo()
    return torch.from_numpy(corpus.load(corpus.items("train")[0]))[None, 3200:27200]


# -- size -------------------------------------------------------------------------------------------------------------

TABLE_II = [  # options, millions of parameters, MMAC/s, parameters of our reading
    ({}, 3.61, 343, 3_612_428),
    ({"dpcrnn": False}, 3.59, 343, 3_595_340),
    ({"skips": False}, 3.33, 330, 3_340_172),
    ({"styling": False}, 2.33, 216, 2_330_700),
]


@pytest.mark.parametrize(("options", "millions", "mmacs", "exact"), TABLE_II)
def test_the_published_sizes(options: dict[str, bool], millions: float, mmacs: float, exact: int) -> None:
    built = codec(psq, **options).eval()
    parameters = sum(p.numel() for p in built.parameters())
    assert parameters == exact and parameters / 1e6 == pytest.approx(millions, rel=0.01)
    assert macs_per_second(built, RATE) / 1e6 == pytest.approx(mmacs, rel=0.01)


def test_where_the_parameters_are() -> None:
    def size(*modules: nn.Module | None) -> int:
        return sum(p.numel() for module in modules if module is not None for p in module.parameters())

    built = codec()
    encoder, decoder = list(built.encoder), list(built.decoder)
    assert [size(block.entry) for block in encoder] == [131_840, 32_896, 8_256, 4_160, 2_080, 2_080]
    blocks = [529_920, 133_376, 33_920, 33_920, 8_640, 8_640]
    assert [size(block.blocks) for block in encoder] == [size(block.blocks) for block in decoder[::-1]] == blocks
    assert [size(block.style) for block in decoder[::-1]] == [975_616, 184_704, 51_392, 51_392, 9_312, 9_312]
    assert [size(block.exit) for block in decoder[::-1]] == [263_682, 65_792, 16_512, 8_256, 4_160, 4_128]
    assert [size(block) for block in built.skips] == [60_736, 48_448, 42_304, 42_304, 39_232, 39_232]
    assert size(built.encoder_rnn) == 8_448 and size(built.decoder_rnn) == 8_640


def test_macs_of_the_default_by_hand() -> None:
    pairs = list(zip([514, 256, 128, 64, 64, 32], [256, 128, 64, 64, 32, 32], [7, 5, 5, 5, 3, 3], strict=True))
    out = [100, 100, 100, 100, 100, 50]  # frames/s behind block m of the encoder, before block m of the decoder
    entry = sum(f * (2 if f == 50 else 1) * a * c for (a, c, _), f in zip(pairs, out, strict=True))
    exits = sum(f * (4 if f == 50 else 2) * a * c for (a, c, _), f in zip(pairs, out, strict=True))
    conv = 2 * 2 * sum(f * (k * c + 4 * c * c) for (_, c, k), f in zip(pairs, out, strict=True))
    style = sum(f * k * (32 * c + 2 * c * c) for (_, c, k), f in zip(pairs, out, strict=True))
    rnn = 2 * 50 * (2 * 32 * 32 + 6 * 32 * 32)
    skips = 50 * sum(3 * c * 32 + 5 * 3 * 32 * 32 + 4 * 5 * 32 * 32 for _, c, _ in pairs)
    assert macs_per_second(codec().eval(), RATE) == entry + exits + conv + style + rnn + skips == 343_712_000


def test_recurrent_layers_count_by_their_weights_and_only_once() -> None:
    lstm = nn.LSTM(5, 3, batch_first=True)
    assert recurrent_macs(lstm, 1) == 4 * 3 * (5 + 3)
    gru = nn.Sequential(nn.Linear(7, 5), nn.GRU(5, 3, num_layers=2, bidirectional=True, batch_first=True))
    expected = 7 * 5 + 2 * 3 * 3 * (5 + 3) + 2 * 3 * 3 * (6 + 3)
    assert macs(lstm, lambda: lstm(torch.zeros(2, 10, 5))) == 20 * 4 * 3 * 8
    assert macs(gru, lambda: gru(torch.zeros(2, 10, 7))) == 20 * expected


def test_presets_are_smaller_or_ablations() -> None:
    cls, options = lookup("codecs", "stft-small")
    assert cls is STFT
    small = codec(**options)
    assert sum(p.numel() for p in small.parameters()) == 1_270_882 and small.transform.alpha == 0.5
    assert lookup("codecs", "stft-no-styling")[1] == {"styling": False}
    assert Training(**STFT.training_options).optimizer == "adamw"


# -- contract ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(psq, id="noise_sq"),
        pytest.param(lambda channels, share: NSVQ(channels, codebook_bits=4), id="nsvq", marks=pytest.mark.slow),
        pytest.param(identity, id="identity", marks=pytest.mark.slow),
        pytest.param(lambda channels, share: FEM(channels), id="fem", marks=pytest.mark.slow),
    ],
)
def test_the_contract_is_kept(make: Any) -> None:
    assert {r.name: r.message for r in run_checks(partial(STFT, **TINY), make) if not r.passed} == {}


@pytest.mark.slow
def test_the_contract_is_kept_at_the_published_size() -> None:
    assert {r.name: r.message for r in run_checks(STFT, psq) if not r.passed} == {}


def test_wrong_sizes_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="one per block"):
        codec(channels=[8, 8])
    with pytest.raises(ValueError, match="alpha=0"):
        codec(alpha=0)
    with pytest.raises(ValueError, match="skips frames"):
        CausalConv(1, 1, kernel=1, stride=2)


# -- causality --------------------------------------------------------------------------------------------------------


def test_the_lookahead_is_that_many_samples_and_not_one_fewer() -> None:
    built = codec(**TINY).double().eval()
    built.quantizer.bypass = True
    signal = 0.1 * torch.randn(1, 8 * STRIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    places = torch.cat([torch.arange(3 * STRIDE, 4 * STRIDE, 16), torch.tensor([3 * STRIDE + 1, 4 * STRIDE - 1])])
    changed = signal.repeat(len(places), 1)
    changed[torch.arange(len(places)), places] += 1.0
    with torch.no_grad():
        moved = (built(changed).signal - built(signal).signal).abs() > 1e-13
    assert moved.any(1).all()
    earliest = moved.int().argmax(1) - places
    assert earliest.min() == -built.lookahead == -478


def test_every_block_is_causal_in_float64() -> None:
    torch.manual_seed(0)
    conv = ConvBlock(8, 5, norm=True).double()
    skip = TADEResBlock(8, 4).double()
    values, condition = torch.randn(1, 8, 20).double(), torch.randn(1, 4, 20).double()
    later = torch.cat([condition[..., :10], torch.randn(1, 4, 10).double()], -1)
    before, after = skip(values, condition, {}), skip(values, later, {})
    assert torch.equal(before[..., :10], after[..., :10]) and not torch.allclose(before[..., 10], after[..., 10])
    other = torch.cat([values[..., :10], torch.randn(1, 8, 10).double()], -1)
    assert torch.equal(conv(values, {})[..., :10], conv(other, {})[..., :10])


# -- the transform ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0])
def test_synthesis_inverts_analysis_but_for_the_last_5_ms(alpha: float, speech: torch.Tensor) -> None:
    transform = CompressedSTFT(alpha)
    signal = torch.cat([speech, torch.zeros(1, 1600), speech], 1)
    memory: Any = {}
    decoded = transform.synthesise(transform.analyse(signal, {}), memory)
    whole = torch.cat([decoded, transform.finish(memory)], 1)[:, 160:]
    assert whole.shape == signal.shape
    assert torch.allclose(whole[:, :-80], signal[:, :-80], atol=1e-6)


def test_an_impulse_at_the_middle_of_a_window_by_hand() -> None:
    """Hann is 1 there and has a squared sum of 3/8 320 = 120: |S| = 120^(-1/2), turned by 160 samples a bin."""
    signal = torch.zeros(1, 320)
    signal[0, 160] = 1.0
    spectra = CompressedSTFT(0.3).analyse(signal, {})[0, :, 1].double().numpy()
    turned = np.exp(-2j * np.pi * np.arange(257) * 160 / 512) * 120 ** (-0.5 * 0.3)
    np.testing.assert_allclose(spectra, np.concatenate([turned.real, turned.imag]), atol=1e-6)


def test_analysis_equals_torch_stft_on_speech(speech: torch.Tensor) -> None:
    reference = torch.stft(
        nn.functional.pad(speech, (160 + 96, 96)), 512, 160, 320, torch.hann_window(320), center=False,
        return_complex=True,
    )[0]  # fmt: skip
    reference = reference * torch.exp(2j * torch.pi * 96 / 512 * torch.arange(257))[:, None] / 120**0.5
    expected = torch.polar(reference.abs() ** 0.5, reference.angle())
    spectra = CompressedSTFT(0.5).analyse(speech, {})[0]
    loud = reference.abs() > 2e-3
    assert loud.float().mean() > 0.3
    assert torch.allclose(torch.complex(spectra[:257], spectra[257:])[loud], expected[loud], atol=1e-4)


def test_silence_has_finite_slopes_both_ways() -> None:
    transform = CompressedSTFT(0.3)
    slope = 1e-3**-0.7  # of |S|^0.3 / |S| at 1e-3
    spectra = transform.analyse(torch.zeros(1, 160).index_fill(1, torch.tensor([0]), 1e-6), {})
    assert spectra[0, 0, 0].item() == pytest.approx(slope * 1e-6 / 120**0.5, rel=1e-4)
    quiet = torch.zeros(1, 514, 2, requires_grad=True)
    transform.synthesise(quiet, {})[0, 160].backward()
    assert quiet.grad is not None and quiet.grad.isfinite().all() and quiet.grad[0, 0, 0] > 0


def test_the_compressed_loss_by_hand(speech: torch.Tensor) -> None:
    loss = LOSSES["compressed_stft"](RATE)
    loud = speech / speech.std()  # bins below 1e-3 are scaled linearly: few, here
    values = [loss(loud, gain * loud).item() for gain in (1, 0, -1, 4)]
    assert values == pytest.approx([0, 1, 4, 1], abs=1e-2)  # |1 - sqrt|gain| sign|^2


# -- streaming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [psq, partial(psq, dithered_evaluation=True)], ids=["rounded", "dithered"])
def test_a_stream_equals_the_whole_file(make: Any, speech: torch.Tensor) -> None:
    built = codec(make, channels=[64, 32, 16, 16, 16, 16])
    built.fit(speech.repeat(2, 1))
    built.eval()
    built.set_dither_seed(3)
    codes = built.encode(speech)
    whole = built.decode(codes, tuple(speech.shape[1:]))
    for positions in ([1] * 75, [1, 2, 9, 1, 30, 8, 24]):
        sender, receiver = built.streamer(), built.streamer()
        pieces, sent = [], []
        for piece in speech.split([STRIDE * count for count in positions], 1):
            sent.append(sender.encode(piece))
            pieces.append(receiver.decode(sent[-1]))
            assert pieces[-1].shape == piece.shape
        decoded = torch.cat([*pieces, receiver.flush()], 1)[:, 160:]
        assert torch.equal(torch.cat(sent, 2), codes)
        assert torch.allclose(decoded, whole, rtol=0, atol=1e-5)


def test_a_streamer_says_what_it_takes() -> None:
    built = codec(**TINY)
    with pytest.raises(ValueError, match="eval"):
        Streamer(built)
    with pytest.raises(ValueError, match="300 samples; pass a multiple of 320"):
        built.eval().streamer().encode(torch.zeros(1, 300))


def test_short_pieces_take_the_same_sums(speech: torch.Tensor) -> None:
    torch.manual_seed(0)
    values = torch.randn(2, 6, 24)
    for layer in (CausalConv(6, 4, 3, dilation=2), CausalConv(6, 6, 5, channelwise=True), CausalConv(6, 4, 2, 2)):
        memory: Any = {}
        pieces = torch.cat([layer(piece, memory) for piece in values.split(2, 2)], 2)
        assert torch.allclose(pieces, layer(values, {}), atol=1e-6)


# -- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, STFT.presets["stft-small"]], ids=["published", "small"])
def test_fixed_levels_are_in_use_from_the_start(options: dict[str, Any], speech: torch.Tensor) -> None:
    built = codec(psq, **options)
    with torch.no_grad():
        source = built(speech).quantized[0].source
    assert 0.2 < source.std() < 5
    built.fit(speech)
    codes = built.eval().encode(speech)
    assert sum(entropy(stream) for stream in codes[0]) > 30 / 2  # of 30 bit; a quarter is the floor
