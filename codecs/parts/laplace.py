"""Classical coding of a spectrum under an envelope that is known: steps from envelope and gain, rounding, Laplacians.

    e = log2 of the envelope at every coefficient, less its mean
    s = LEAST_STEP + gain + e / 2                         log2 step; gain in eighths of an octave, one per position
    x / 2^s -> round -> n, coded under the Laplacian of log2 scale r = e / 2 + c -> centroid of n's cell * 2^s -> x^

Half of e shapes the noise after the envelope, as perceptual weighting does; the other half is left for r. c is the
most at which Laplacians of these scales stay within a budget of bits, which the decoder finds as well; gain, the level,
is the least at which the symbols do (the rate loop of transform coders). So every position spends about the same,
whatever the envelope's error. What decides how symbols are coded is done in integers: encoder and decoder find the
same tables on any machine.
"""

import math
from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...quantizers.base import TABLE_BITS, Codes, Latents, Noise, Quantizer, Tables, integer_counts

GAINS = 128  # symbols of the gain, of 1 / PER_OCTAVE each
GRID = 256  # of log2 scales and steps: integers per octave
LEAST_STEP = -15  # but for e, no finer than the steps of 16-bit samples
COST = 1024  # integers per bit of the expected rate
REACH = 32  # octaves on either side of 0 in which c is sought
ROUND = 0.4  # |n| is rounded up from 1 - ROUND on: what 0.1 less saves in bits is worth more than its error
LEAST_SCALE, PER_OCTAVE, SCALES, SPREAD = -4, 8, 80, 255  # rows of the tables: log2 scale; symbols on either side of 0
WIDTH = GRID // PER_OCTAVE  # of a row and of a gain

Spectrum = Float[Tensor, "B M T"]
Scales = Int[Tensor, "B M T"]  # log2, in 1 / GRID
Gain = Int[Tensor, "B 1 T"]
Rows = Float[Tensor, " R"]


class Steps(NamedTuple):
    """How a spectrum is quantized, in 1 / GRID of an octave: log2 of the steps, log2 of scales over steps."""

    step: Scales
    ratio: Scales  # type: ignore[assignment]

    def sizes(self, dtype: torch.dtype) -> Spectrum:
        """The steps."""
        return (self.step.to(dtype) / GRID).exp2()

    def decays(self, dtype: torch.dtype) -> Spectrum:
        """d of the Laplacian exp(-d |n|) of every symbol, within those of the tables."""
        return _decay((self.ratio.to(dtype) / GRID).clamp(LEAST_SCALE, LEAST_SCALE + (SCALES - 1) / PER_OCTAVE))

    def rows(self) -> Int[Tensor, "B M T"]:
        """The row of the tables for every symbol."""
        return _rows(self.ratio).clamp(0, SCALES - 1)


@final
class LaplaceCoder(Quantizer):
    """M + 1 channels and streams: the gain, and M coefficients over their steps.

    Args:
        coefficients: M.
        bits: per position, that the coefficients and a gain of 7 bit take at most.
    """

    rate_is_learned = True
    budget: Tensor
    counts: Tensor
    costs: Tensor

    def __init__(self, coefficients: int, bits: float) -> None:
        super().__init__(1 + coefficients)
        counts = laplace_counts()
        share = counts.double() / (1 << TABLE_BITS)
        costs = -(share * share.log2()).sum(1) * COST
        self.register_buffer("budget", torch.tensor(bits - math.log2(GAINS), dtype=torch.float64))
        self.register_buffer("counts", counts.to(torch.int32))  # saved: another machine's exp may differ
        self.register_buffer("costs", costs.round().to(torch.int64))

    @property
    def alphabet(self) -> tuple[int | None, ...]:
        return GAINS, *(None,) * (self.channels - 1)

    def encode(self, latents: Latents, noise: Noise) -> Codes:
        gain, values = latents.detach().split([1, self.channels - 1], 1)
        return torch.cat([gain.round().clamp(0, GAINS - 1), _rounded(values)], 1).long()

    def decode(self, codes: Codes, noise: Noise) -> Latents:
        return codes.to(self.dtype)

    def surrogate(self, latents: Latents, noise: Noise) -> tuple[Latents, Codes]:
        """Rounded in training too, without a gradient: a spectrum has none to pass on."""
        codes = self.encode(latents, noise)
        return self.decode(codes, noise), codes

    def tables(self, known: Codes) -> Tables:
        """Of the gain; those of the coefficients hang on an envelope, see spectrum_tables()."""
        if known.shape[1]:
            raise ValueError("coefficients are coded under an envelope; call spectrum_tables()")
        return super().tables(known)

    def fit_tables(self, codes: Codes) -> None:
        """That of the gain; the others are Laplacians."""
        super().fit_tables(codes[:, :1])

    def coarsen(self, amount: float) -> None:
        """A budget smaller by exp(amount) widens the steps."""
        self.budget *= math.exp(-amount)

    @torch.no_grad()
    def steps(self, scales: Scales, gain: Gain) -> Steps:
        """Of log2 scales, but for a constant, and a gain; exact."""
        half = self._half(scales)
        return Steps(LEAST_STEP * GRID + gain * WIDTH + half, half + self._offset(half))

    @torch.no_grad()
    def gain(self, spectrum: Spectrum, scales: Scales) -> Gain:
        """The finest at which the symbols of a position fit the budget, by bisection; the coarsest where none does."""
        lengths = (TABLE_BITS - self.counts.double().log2()).to(spectrum.dtype).flatten()
        half = self._half(scales)
        zero = Steps(LEAST_STEP * GRID + half, half + self._offset(half))
        finest = (spectrum / zero.sizes(spectrum.dtype)).abs()
        first = zero.rows() * self.counts.shape[1] + SPREAD  # of the symbol 0 in its row; both signs cost the same
        low = scales.new_zeros(scales.shape[0], 1, scales.shape[2])
        high = low + GAINS - 1
        for _ in range((GAINS - 1).bit_length()):
            middle = (low + high) >> 1
            symbols = (finest * (middle.to(finest.dtype) * (-1 / PER_OCTAVE)).exp2() + ROUND).clamp_max(SPREAD + 1)
            fits = lengths[first + symbols.long()].sum(1, keepdim=True) <= self.budget
            low, high = torch.where(fits, low, middle + 1), torch.where(fits, middle, high)
        return high

    def _half(self, scales: Scales) -> Scales:
        return (scales - scales.sum(1, keepdim=True).div(scales.shape[1], rounding_mode="floor")) >> 1

    def _offset(self, half: Scales) -> Gain:
        """c, by bisection among whole rows."""
        budget, rows = int(self.budget * COST), _rows(half)
        low = half.new_full((half.shape[0], 1, half.shape[2]), -REACH * PER_OCTAVE)
        high = -low
        for _ in range((2 * REACH * PER_OCTAVE).bit_length()):
            middle = (low + high + 1) >> 1
            fits = self.costs[(rows + middle).clamp(0, SCALES - 1)].sum(1, keepdim=True) <= budget
            low, high = torch.where(fits, middle, low), torch.where(fits, high, middle - 1)
        return low * WIDTH

    def spectrum_tables(self, steps: Steps) -> Tables:
        """Of all coefficients at once."""
        rows = steps.rows().cpu()
        return Tables(self.counts.long().cpu(), rows, torch.full_like(rows, -SPREAD), escape=True)

    def bits(self, codes: Int[Tensor, "B M T"], steps: Steps, change: Spectrum) -> Spectrum:
        """Of every coefficient, were r greater by `change`; differentiable in it."""
        decay = steps.decays(change.dtype) * (-change).exp2()
        zero = -_log_below((1 - ROUND) * decay)
        other = decay * (codes.abs() - ROUND) - _log_below(decay) + math.log(2)
        return torch.where(codes == 0, zero, other) / math.log(2)

    def slopes(self, steps: Steps) -> Spectrum:
        """Bits that every coefficient is expected to cost more per octave of a finer step."""
        rises = self.costs.diff() * (PER_OCTAVE / COST)
        return torch.cat([rises, rises[-1:]]).to(self.dtype)[steps.rows()]

    def growths(self, steps: Steps) -> Spectrum:
        """The power of its step that every error is expected to grow with: 1 if fine, 0 if so wide that all is 0."""
        decay = _decay(row_scales())
        relative = rounding_error(decay) * decay.square() / 2  # to the variance
        powers = relative.log2().diff() * (-PER_OCTAVE / 2)
        return torch.cat([powers, powers[-1:]]).to(device=steps.ratio.device).to(self.dtype)[steps.rows()]

    def restored(self, values: Spectrum, steps: Steps) -> Spectrum:
        """Rounded values to the centroids of their cells, times their steps."""
        if not self.bypass:
            decay = steps.decays(values.dtype)
            values = values + values.sign() * _inside(decay)
        return values * steps.sizes(values.dtype)


def row_scales() -> Rows:
    """log2 of the standard deviation of every row of the tables, in steps."""
    return LEAST_SCALE + torch.arange(SCALES, dtype=torch.float64) / PER_OCTAVE


def laplace_counts() -> Int[Tensor, "R K"]:
    """Integer tables of all scales, symbols -255 to 255 and an escape."""
    decay = _decay(row_scales())[:, None]
    distance = torch.arange(-SPREAD, SPREAD + 1, dtype=torch.float64).abs()
    mass = torch.exp(-decay * (distance - ROUND)) * -torch.expm1(-decay) / 2
    mass = torch.where(distance == 0, -torch.expm1(-(1 - ROUND) * decay), mass)
    escape = (1 - mass.sum(1, keepdim=True)).clamp_min(0)
    return integer_counts(torch.cat([mass, escape], 1))


def rounding_error(decay: Rows) -> Rows:
    """Mean squared error of Laplacian values that are rounded and restored to centroids, in squared steps."""
    edge = 1 - ROUND
    beyond = torch.exp(-decay * edge)
    zero = 2 / decay.square() - beyond * (edge**2 + 2 * edge / decay + 2 / decay.square())
    cell = 1 / decay.square() - 1 / (2 * torch.sinh(decay / 2)).square()  # variance of exp(-d y) on (0, 1)
    return zero + beyond * cell


def _rows(ratio: Scales) -> Tensor:
    """The nearest row of the tables, had they rows for all scales."""
    return (ratio - LEAST_SCALE * GRID + WIDTH // 2) >> (WIDTH.bit_length() - 1)  # floor of / WIDTH


def _decay(log2_scale: Tensor) -> Tensor:
    """d of the Laplacian exp(-d |n|) of this standard deviation."""
    return math.sqrt(2) * (-log2_scale).exp2()


def _inside(decay: Tensor) -> Tensor:
    """Where the centroid of a cell lies, from its symbol on."""
    return 1 / decay - 1 / torch.expm1(decay) - ROUND


def _log_below(decay: Tensor) -> Tensor:
    """ln of the share of exp(-d n) below n = 1."""
    return torch.log(-torch.expm1(-decay))


def _rounded(values: Tensor) -> Tensor:
    return values.sign() * (values.abs() + ROUND).floor()
