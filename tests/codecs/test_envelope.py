"""The envelope codec: transform, Laplacians and rate loop by hand, its rate in files, gradients at a constant rate."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.runs.run import run
from codecbench.benchmark.specs.plugin import find
from codecbench.benchmark.training.model import load_model
from codecbench.benchmark.training.rate_search import codec_for
from codecbench.codecs.checks import run_checks
from codecbench.codecs.envelope import HOP, Envelope, band_means
from codecbench.codecs.files.files import decode_file, encode_file
from codecbench.codecs.parts.laplace import (
    GRID,
    LEAST_SCALE,
    PER_OCTAVE,
    ROUND,
    SPREAD,
    LaplaceCoder,
    laplace_counts,
    rounding_error,
    row_scales,
)
from codecbench.codecs.parts.lapped import LappedTransform
from codecbench.datamodules.demo import Demo
from codecbench.quantizers.base import TABLE_TOTAL, Maker, Nested
from codecbench.quantizers.coding.entropy import decode_codes, encode_codes, information
from codecbench.quantizers.fem import FEM
from codecbench.quantizers.identity import Identity
from codecbench.quantizers.nsvq import NSVQ
from codecbench.quantizers.residual import Residual
from scipy import stats
from torch import Tensor

MAKERS: dict[str, Maker] = {
    "identity": lambda channels, share: Identity(channels),
    "nsvq": lambda channels, share: NSVQ(channels, codebook_bits=4),
    "fem": lambda channels, share: FEM(channels),
    "residual": lambda channels, share: Residual(channels, Nested(NSVQ, {"codebook_bits": 3}), stages=2),
}
FRAMES = 50


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def laplacian(*shape: int, seed: int = 0) -> Tensor:
    """Of variance 1."""
    uniform = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5
    return -uniform.sign() * (1 - 2 * uniform.abs()).log() / math.sqrt(2)


def speech(count: int) -> list[Tensor]:
    corpus = Demo()
    return [torch.from_numpy(corpus.load(item)) for item in corpus.items("train")[:count]]


# -- contract ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nsvq", *(pytest.param(m, marks=pytest.mark.slow) for m in MAKERS if m != "nsvq")])
def test_it_keeps_the_contract(name: str) -> None:
    assert {each.name: each.message for each in run_checks(Envelope, MAKERS[name]) if not each.passed} == {}


def test_a_position_waits_for_half_a_block_and_an_output_for_the_next_position() -> None:
    codec = Envelope(MAKERS["identity"]).eval()
    signal = 0.1 * noise(1, 8 * HOP)
    codes, out = codec.encode(signal), codec(signal).signal
    for end in (2 * HOP + HOP // 2, 5 * HOP + HOP // 2):
        moved = signal.clone()
        moved[:, end:] += 0.1 * noise(1, 8 * HOP - end, seed=1)
        position = end // HOP  # whole positions before
        assert torch.equal(codec.encode(moved)[..., :position], codes[..., :position])
        assert torch.equal(codec(moved).signal[:, : end - codec.lookahead], out[:, : end - codec.lookahead])
        assert not torch.equal(codec.encode(moved)[..., position], codes[..., position])


# -- transform --------------------------------------------------------------------------------------------------------


def test_the_lapped_transform_is_the_mdct_of_a_sine_window_and_orthonormal() -> None:
    size = 6
    transform, signal = LappedTransform(size), noise(1, 5 * size).double()
    spectrum = transform.analyse(signal)
    samples = torch.arange(-size // 2, 3 * size // 2, dtype=torch.float64)
    window = (math.pi / 2 / size * (samples + size / 2 + 0.5)).sin()
    basis = (math.pi / size * (samples + 0.5) * (torch.arange(size)[:, None] + 0.5)).cos() * math.sqrt(2 / size)
    for block in (1, 2, 3):
        piece = signal[0, block * size - size // 2 : (block + 1) * size + size // 2]
        torch.testing.assert_close(spectrum[0, :, block], basis @ (window * piece))
    torch.testing.assert_close(spectrum.square().sum(), signal.square().sum())
    torch.testing.assert_close(transform.synthesise(spectrum), signal)


def test_bands_cover_all_coefficients_once() -> None:
    means = band_means(20)
    torch.testing.assert_close(means.sum(0), torch.ones(20))
    assert ((means > 0).sum(1) == 1).all()
    widths = (means > 0).sum(0)
    # 26.81 f / (1960 + f) = 21.53 at 8 kHz: 1.077 a band; the first ends at 82 Hz, the last begins at 6311 Hz
    assert int(widths[0]) == 3 and int(widths[-1]) == 320 - 252


# -- Laplacians -------------------------------------------------------------------------------------------------------


def test_tables_are_laplacians_over_cells_that_begin_at_0_6() -> None:
    counts = laplace_counts()
    shares = counts.double() / TABLE_TOTAL
    row = round((0.5 - LEAST_SCALE) * PER_OCTAVE)  # deviation sqrt 2, exp(-|n|)
    assert float(shares[row, SPREAD]) == pytest.approx(1 - math.exp(-0.6), rel=1e-3)  # 0.4512
    assert float(shares[row, SPREAD + 1]) == pytest.approx(math.exp(-0.6) * (1 - math.exp(-1)) / 2, rel=1e-3)  # 0.1735
    assert torch.equal(shares[:, 1:SPREAD].flip(1), shares[:, SPREAD + 1 : 2 * SPREAD])
    for row in (20, 40, 60):
        laplace = stats.laplace(scale=2 ** float(row_scales()[row]) / math.sqrt(2))
        edges = np.arange(6) - ROUND
        np.testing.assert_allclose(shares[row, SPREAD + 1 : SPREAD + 6], np.diff(laplace.cdf(edges + 1)), atol=5e-4)


def test_the_error_of_rounding_is_that_of_rounded_laplacian_values() -> None:
    values = laplacian(400_000)
    coder = LaplaceCoder(1, 10.0).double()
    for row in (24, 40, 64):
        deviation = 2 ** float(row_scales()[row])
        decay = torch.tensor([math.sqrt(2) / deviation], dtype=torch.float64)
        scaled = deviation * values[None, None]
        symbols = coder.encode(torch.cat([scaled, scaled], 1), scaled[:, :0])[:, 1:].double()
        inside = 1 / decay - 1 / torch.expm1(decay) - ROUND
        error = (symbols + symbols.sign() * inside - scaled).square().mean()
        assert float(error) == pytest.approx(float(rounding_error(decay)), rel=0.02)
    growths = rounding_error(math.sqrt(2) * 2.0 ** -torch.tensor([7.0, 8.0], dtype=torch.float64))
    torch.testing.assert_close(growths, torch.full_like(growths, 1 / 12), rtol=0.1, atol=0)  # fine steps: uniform


# -- steps ------------------------------------------------------------------------------------------------------------


def test_a_flat_envelope_gets_the_widest_laplacians_within_the_budget() -> None:
    coder = LaplaceCoder(64, 71.0)  # 7 bit of gain and one a coefficient
    steps = coder.steps(torch.full((1, 64, 2), -5 * GRID), torch.tensor([[[0, 8]]]))
    row = int(steps.rows()[0, 0, 0])
    shares = coder.counts[row : row + 2].double() / TABLE_TOTAL
    entropy = -(shares * shares.log2()).sum(1)
    assert (steps.rows() == row).all() and entropy[0] <= 1 < entropy[1]
    assert steps.sizes(torch.float64)[0, 0].tolist() == [2.0**-15, 2.0**-14]  # whatever the level of the envelope


def test_half_of_the_envelope_is_in_the_steps() -> None:
    coder = LaplaceCoder(2, 12.0)
    steps = coder.steps(torch.tensor([[[3 * GRID], [-GRID]]]), torch.tensor([[[80]]]))  # mean 1: e = 2, -2
    assert (steps.step / GRID)[0, :, 0].tolist() == [-15 + 10 + 1, -15 + 10 - 1]
    assert int(steps.ratio[0, 0] - steps.ratio[0, 1]) == 2 * GRID


def test_the_gain_is_the_finest_within_the_budget_and_follows_the_level() -> None:
    coder, scales = LaplaceCoder(64, 107.0), (GRID * noise(1, 64, FRAMES)).round().long()
    spectrum = 0.01 * laplacian(1, 64, FRAMES).float() * (scales / GRID).exp2()
    gain = coder.gain(spectrum, scales)
    lengths = 20 - coder.counts.double().log2()

    def spent(gain: Tensor) -> Tensor:
        steps = coder.steps(scales, gain)
        symbols = coder.encode(torch.cat([gain.float(), spectrum / steps.sizes(torch.float32)], 1), gain[:, :0])[:, 1:]
        return lengths[steps.rows(), symbols + SPREAD].sum(1)

    assert (spent(gain) <= 100).all() and (spent(gain - 1) > 100).all()
    assert torch.equal(coder.gain(4 * spectrum, scales), gain + 2 * PER_OCTAVE)
    assert (coder.gain(0 * spectrum, scales) == 0).all()


def test_scales_are_exact_in_any_order() -> None:
    codec = Envelope(MAKERS["identity"])
    latents = 5 * noise(1, 19, 3)
    values = [[round(256 * float(value)) for value in row] for row in latents[0].double()]
    weights = [[round(2**14 * float(value)) for value in row] for row in codec.synthesis.weight.detach().double()]
    scales = codec.scales(latents)
    for place in (0, 7, 319):
        exact = sum(weight * row[1] for weight, row in zip(weights[place], values, strict=True))
        assert int(scales[0, place, 1]) == round(exact * GRID / 2**22)


# -- rate -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [160, 640])
def test_files_spend_little_less_than_was_asked_and_decode_to_the_same(bits: int) -> None:
    codec = Envelope(MAKERS["nsvq"], bits_per_frame=bits, envelope_bits=4).train()
    signals = speech(4)
    torch.manual_seed(0)
    codec.fit(torch.cat(signals)[None])
    codec.eval().fit_tables(codec.encode(torch.cat(signals)[None]))
    for signal in signals:
        with torch.no_grad():
            coded = codec(signal[None])
        codes = codec.encode(signal[None])
        data = encode_codes(codec, codes)
        assert torch.equal(decode_codes(codec, data, codes.shape[2]), codes)
        assert torch.equal(codec.decode(codes, tuple(signal.shape)), coded.signal)
        assert 0.88 * bits < 8 * len(data) / codes.shape[2] <= bits  # whole steps of gain, at 7 bit each, are left over
        said = float(coded.quantized[1].bits.sum() + coded.quantized[0].bits.sum())
        assert information(codec, codes) == pytest.approx(said, rel=0.05)  # it counts gain and codebook in full


def test_a_widened_coder_spends_less() -> None:
    coder = LaplaceCoder(64, 107.0)
    coder.coarsen(math.log(2))
    assert float(coder.budget) == 50


def test_the_bitrate_is_shared_by_envelope_and_residual() -> None:
    asked: list[tuple[int, float]] = []

    def make(channels: int, share: float) -> Identity:
        asked.append((channels, share))
        return Identity(channels)

    chosen = codec_for(find("codec", "envelope", {"bits_per_frame": None}), 160.0)
    codec = Envelope(make, **chosen.options)
    assert asked == [(19, pytest.approx(12 / 160))] and float(codec.residual.budget) == 160 - 12 - 7
    assert codec_for(find("codec", "frae"), 160.0) == find("codec", "frae") and codec_for(chosen, None) == chosen
    with pytest.raises(UserError, match=r"--bitrate and --codec\.bits_per_frame both"):
        codec_for(chosen, 320.0)


@pytest.mark.parametrize("options", [{"bits_per_frame": 20.0}, {"envelope_bits": 0.0}, {"bands": 1}])
def test_what_cannot_be_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Envelope(MAKERS["identity"], **options)  # type: ignore[arg-type]


# -- training ---------------------------------------------------------------------------------------------------------


def test_the_gradient_follows_the_error_at_a_constant_rate() -> None:
    """White Laplacian values under an envelope that tilts: what autograd says of more tilt, and what it does."""
    torch.manual_seed(0)
    codec = Envelope(MAKERS["identity"], bits_per_frame=400).double().eval()
    tilt = torch.linspace(-1, 1, HOP, dtype=torch.float64)
    signal = codec.transform.synthesise(0.05 * laplacian(1, HOP, 1000))

    def error(amount: float) -> Tensor:
        with torch.no_grad():
            codec.synthesis.weight.zero_()
            codec.synthesis.bias.copy_(amount * tilt)
        return 1e4 * (codec(signal).signal - signal).square().mean()

    def gradient(amount: float) -> float:
        return float(torch.autograd.grad(error(amount), codec.synthesis.bias)[0] @ tilt)

    assert abs(gradient(0.0)) < 0.01 * abs(gradient(1.0))  # the right envelope is the best one
    for amount in (-2.0, 1.0, 2.0):
        with torch.no_grad():
            change = 2 * float(error(amount + 0.25) - error(amount - 0.25))
        assert 0.3 < gradient(amount) / change < 1, amount  # the shape of the errors changes too


def test_it_meets_its_bitrate_in_files_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    for split, count in (("train", 6), ("validation", 2), ("test", 2)):
        (tmp_path / "speech" / split / split).mkdir(parents=True)
        for item in Demo().items(split)[:count]:
            shutil.copy(item.path, tmp_path / "speech" / split / split)
    record = run(
        "nsvq",
        "envelope",
        data="folder",
        data_options={"root": str(tmp_path / "speech")},
        codec_options={"envelope_bits": 6.0},
        training={"steps": 4, "validate_every": 2, "batch_size": 4, "crop_seconds": 0.5},
        bitrate=16.4,
        output_dir=tmp_path,
        quiet=True,
    )
    assert record.rate_kbps["measured"] == pytest.approx(16.4, rel=0.05)
    assert record.scores["estoi"].mean > 0.85
    assert record.complexity["latency_s"] == 639 / 16_000
    signal, file = speech(1)[0], tmp_path / "speech.cbs"
    _, expected = encode_file(load_model(tmp_path / record.name), signal, file, "range")
    assert torch.equal(decode_file(load_model(tmp_path / record.name), file)[1], expected)
