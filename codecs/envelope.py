"""A transform codec of speech whose spectral envelope is vector-quantized end to end (Vali & Backstrom 2022, IV).

    x -> lapped transform -> X -> band levels -> A -> y -> Q -> y^ -> B -> log2 envelope at every coefficient
                             |                                       |
                             '---> rate loop, rounding, Laplacians <-'---> X^ -> inverse transform -> x^

The first of the paper's three scenarios: the shape of the envelope goes through the quantizer that is plugged in, by
default at the 12 bit a frame of the paper's figure 1; its level and the spectrum take the rest of the rate (8, 9.6,
13.2, 16.4, 24.4 and 32 kbit/s in all there) through the classical coder of laplace.py. --bitrate sets what both spend
together. `residual` makes the quantizer multi-stage, for more bits (--codec.envelope_bits) than one codebook can have.

The paper trains by one loss of the decoded speech, with Adam at 1e-3, but leaves the codec itself to its references.
Chosen here, for 16 kHz: blocks of 20 ms, each waiting for 10 ms of the next one; levels of 20 bands of equal width on
the Bark scale (Traunmueller 1990), less their mean; A and B are matrices that start as a DCT of the levels and its
inverse, linear between band centres, and learn; a relative error of compressed spectra as the loss.
Rounding and rate loop have no derivative. The loss reaches B, Q and A through what is expected at a constant rate: an
envelope under which symbols are dearer widens all steps of its position by what pays for that, and errors grow with
their steps (`_at_constant_rate`). That an envelope also shapes the errors is left out: within a
few hundred steps that expectation leads away from the best shape (demo, held-out loss .148 to .177; without it .146).
There is no unquantized warm-up: with nothing rounded nothing is lost, and nothing to learn from.
Scales are exact where the quantizer's decode() is: lookups and sums are, on any machine.
"""

import math
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..quantizers.base import Codes, Latents, Maker, Quantizer, Tables
from .base import Codec, Coded
from .parts.laplace import GAINS, GRID, LaplaceCoder, Scales, Spectrum, Steps
from .parts.lapped import LappedTransform

HOP = 320  # samples
DEFAULT_BITS = 328.0  # per frame: 16.4 kbit/s
BIN = 25.0  # Hz
POWER_FLOOR = 2.0**-34  # of a coefficient; samples rounded to 16 bit have 2**-33.6
WEIGHT_BITS, VALUE_BITS = 14, 8  # fractions of a weight of B and of a latent on integers
WEIGHT_LIMIT, VALUE_LIMIT = 2.0**18, 2.0**20  # they saturate here: some thousand products add up below 2**53
SCALE_LIMIT = 32 * GRID
LEAST_BITS = 16.0  # a frame that are left for level and spectrum


@final
class Envelope(Codec):
    """Waveforms "B N".

    Args:
        make_quantizer: (channels, share of the rate) -> Quantizer, called once, for the envelope.
        bits_per_frame: of everything, 50 times a second; --bitrate sets it. Default: 328, 16.4 kbit/s.
        envelope_bits: of these, for the envelope.
        bands: of the envelope; there is one latent less.
    """

    paper = "Vali & Backstrom 2022, doi:10.1109/ACCESS.2022.3147670, section IV"
    domain = "waveform"
    causal = True
    stride = HOP
    lookahead = 2 * HOP - 1
    default_bitrate = 16.4
    rate_option = "bits_per_frame"
    training_options: ClassVar[dict[str, Any]] = {
        "losses": {"compressed_stft": 1.0},
        "learning_rate": 1e-3,
        "batch_size": 16,
        "crop_seconds": 1.0,
        "warmup": 0.0,
    }
    bands: Tensor

    def __init__(
        self,
        make_quantizer: Maker,
        bits_per_frame: float | None = None,
        envelope_bits: float = 12.0,
        bands: int = 20,
    ) -> None:
        super().__init__()
        total = DEFAULT_BITS if bits_per_frame is None else bits_per_frame
        if not 2 <= bands <= 24:
            raise ValueError(f"bands={bands} must lie between 2 and 24")
        if not 0 < envelope_bits <= total - LEAST_BITS:
            raise ValueError(
                f"bits_per_frame={total:g} must exceed envelope_bits={envelope_bits:g}, which must be above "
                f"0, by {LEAST_BITS:g}: ask for a higher bitrate"
            )
        self.transform = LappedTransform(HOP)
        means = band_means(bands)
        self.register_buffer("bands", means, persistent=False)
        self.analysis = nn.Linear(bands, bands - 1, bias=False)
        self.synthesis = nn.Linear(bands - 1, HOP)
        with torch.no_grad():
            self.analysis.weight.copy_(_dct(bands)[1:])
            self.synthesis.weight.copy_(_interpolation(means) @ _dct(bands)[1:].T)
            self.synthesis.bias.zero_()
        self.quantizer = make_quantizer(bands - 1, envelope_bits / total)
        self.residual = LaplaceCoder(HOP, total - envelope_bits)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return self.quantizer, self.residual

    def forward(self, signal: Tensor) -> Coded:
        samples = signal.shape[-1]
        spectrum = self.transform.analyse(nn.functional.pad(signal, (0, -samples % HOP)))
        envelope = self.quantizer(self.latents(spectrum))
        scales = self.scales(envelope.latents)
        gain = self.residual.gain(spectrum, scales)
        steps = self.residual.steps(scales, gain)
        scaled = spectrum / steps.sizes(spectrum.dtype)
        residual = self.residual(torch.cat([gain.to(scaled.dtype), scaled], 1))
        bits, widening = self._at_constant_rate(envelope.latents, residual.codes[:, 1:], steps)
        decoded = self.residual.restored(residual.latents[:, 1:], steps)
        decoded = decoded + (decoded - spectrum) * self.residual.growths(steps) * widening
        total = bits.sum(1) + math.log2(GAINS)
        return Coded(self.transform.synthesise(decoded)[:, :samples], (envelope, residual._replace(bits=total)))

    @torch.no_grad()
    def decode(self, codes: Codes, shape: tuple[int, ...]) -> Tensor:
        envelope, residual = self.split(codes)
        noise = self.residual.draw(codes.shape[0], codes.shape[2])
        values = self.residual.decode(residual, noise)[:, 1:]
        decoded = self.residual.restored(values, self._steps(envelope, residual[:, :1]))
        return self.transform.synthesise(decoded)[:, : shape[-1]]

    @torch.no_grad()
    def tables(self, known: Codes) -> Tables:
        """The envelope's, the gain's, and Laplacians of the coefficients at the scales of the decoded envelope."""
        streams = len(self.quantizer.alphabet)
        if known.shape[1] <= streams:
            return super().tables(known)
        known = known.to(self.device)
        return self.residual.spectrum_tables(self._steps(known[:, :streams], known[:, streams : streams + 1]))

    def latents(self, spectrum: Spectrum) -> Latents:
        """log2 of the root mean square in every band, less the mean over bands, times A; in float64 up to there."""
        power = spectrum.double().square().transpose(1, 2) @ self.bands.double()
        levels = (power + POWER_FLOOR).log2() / 2
        levels = levels - levels.mean(2, keepdim=True)
        return self.analysis(levels.to(spectrum.dtype)).transpose(1, 2)

    @torch.no_grad()
    def scales(self, latents: Latents) -> Scales:
        """log2 of the scale of every coefficient in 1 / GRID.

        Latents and B are integers carried in float64, where all their sums are exact in any order.
        """
        values = (latents.double() * (1 << VALUE_BITS)).round().clamp(-VALUE_LIMIT, VALUE_LIMIT)
        weight = (self.synthesis.weight.double() * (1 << WEIGHT_BITS)).round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        one = 1 << (WEIGHT_BITS + VALUE_BITS)
        sums = values.transpose(1, 2) @ weight.T + (self.synthesis.bias.double() * one).round()
        return (sums * (GRID / one)).round().clamp(-SCALE_LIMIT, SCALE_LIMIT).transpose(1, 2).long()

    def _steps(self, envelope: Codes, gain: Codes) -> Steps:
        noise = self.quantizer.draw(envelope.shape[0], envelope.shape[2])
        return self.residual.steps(self.scales(self.quantizer.decode(envelope, noise)), gain)

    def _at_constant_rate(self, latents: Latents, symbols: Codes, steps: Steps) -> tuple[Spectrum, Spectrum]:
        """Bits of every symbol, and ln of what the steps grow by where latents or B change: 0, with a gradient."""
        scale = self.synthesis(latents.transpose(1, 2)).transpose(1, 2)
        change = scale - scale.detach()
        half = (change - change.mean(1, keepdim=True)) / 2
        slopes = self.residual.slopes(steps)
        slope = slopes.sum(1, keepdim=True).clamp_min(1.0)
        offset = -(slopes * half).sum(1, keepdim=True) / slope
        bits = self.residual.bits(symbols, steps, half + offset)
        dearer = (bits - bits.detach()).sum(1, keepdim=True)
        return bits, dearer / slope * math.log(2)


def band_means(bands: int) -> Float[Tensor, "M bands"]:
    """Weights of the mean over each band; the bands' edges are equally spaced in Bark (Traunmueller 1990)."""
    top = 26.81 * HOP * BIN / (1960 + HOP * BIN)  # Bark, but for a constant
    bark = torch.linspace(0, top, bands + 1, dtype=torch.float64)
    edges = (1960 * bark / (26.81 - bark) / BIN).round()
    places = torch.arange(HOP, dtype=torch.float64)[:, None]
    inside = (places >= edges[:-1]) & (places < edges[1:])
    return (inside / inside.sum(0)).to(torch.get_default_dtype())


def _interpolation(means: Tensor) -> Tensor:
    """Values at the bands' centres to all coefficients, linear between them: "M bands"."""
    places = torch.arange(len(means), dtype=means.dtype)
    centres = places @ means
    inside = places.clamp(float(centres[0]), float(centres[-1]))
    right = torch.searchsorted(centres, inside).clamp(1, len(centres) - 1)
    share = ((inside - centres[right - 1]) / (centres[right] - centres[right - 1]))[:, None]
    units = torch.eye(len(centres), dtype=means.dtype)
    return share * units[right] + (1 - share) * units[right - 1]


def _dct(size: int) -> Tensor:
    """The orthonormal DCT-II."""
    places = torch.arange(size, dtype=torch.float64)
    basis = math.sqrt(2 / size) * (math.pi / size * places[:, None] * (places + 0.5)).cos()
    basis[0] /= math.sqrt(2)
    return basis.to(torch.get_default_dtype())
