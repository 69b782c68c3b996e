"""ACE, the advanced combination encoder: audio to the stimulation pattern of a cochlear implant, and the way back.

waveform "B N" -> gain, pre-emphasis -> 128-point Hann FFT every `hop` samples -> 22 band envelopes "B 22 T"
    -> the largest `maxima` of them -> loudness growth function (LGF) -> pattern "B 22 T"

Letters: B batch, N samples at 16 kHz, T = ceil(N / hop) frames. Frame i sees the samples i*hop+hop-128 ... i*hop+hop-1
and nothing later; before the first and after the last sample there is silence. Everything works in the input's dtype.
Constants: Nucleus MATLAB Toolbox (NMT) and CCi-MOBILE. Paper: Hinrichs et al., VQ FRAE, section II-A.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from scipy.optimize import root_scalar
from torch import Tensor
from torch.nn import functional as F

Waveform = Float[Tensor, "B N"]
Bands = Float[Tensor, "B 22 T"]

SAMPLE_RATE = 16_000
BLOCK = 128  # samples of one FFT
BANDS = 22
UNSELECTED = -0.1  # what a pattern holds where a band is not stimulated

FIRST_BIN = 2  # 0 and 125 Hz are not used
BAND_BINS = (1,) * 9 + (2,) * 4 + (3, 3, 4, 4, 5, 5, 6, 7, 8)  # FFT bins of each band, 62 in all
LARGEST_LN_RHO = 15.0
FRAMES_AT_ONCE = 4096  # a recording of an hour would need gigabytes

# What a full-scale sine in the middle of a band gives, by the band's number of bins, so that its envelope is 1.
POWER_GAINS = {bins: math.sqrt({1: 1024.0, 2: 1475.5967003}.get(bins, 1536.0)) for bins in range(1, 9)}
# The largest response of a band; NMT looks for it on a grid of 1/16 bin.
VECTOR_GAINS = dict(
    enumerate((32.0, 54.3248875, 64.0, 65.1898642, 64.5343134, 64.7296031, 64.6304803, 64.6844163), start=1)
)


@dataclass(frozen=True)
class AceConfig:
    """Every parameter of the front end; the defaults suit speech at -25 dBFS. ValueError where one is out of range."""

    gain_db: float = 25.0
    pre_emphasis: bool = True
    envelope: Literal["power", "vector"] = "power"  # power: CCi-MOBILE, NMT to version 4; vector: NMT 5
    maxima: int = 8  # bands selected in each frame
    hop: int = 18  # samples; ceil(16000 / 900), the nearest to 900 frames/s that NMT and CCi-MOBILE offer
    base_level: float = 4 / 256  # envelopes below it do not stimulate
    saturation_level: float = 150 / 256  # envelopes above it give the most comfortable level, 1
    q: float = 20.0  # steepness: the LGF falls by so many percent for 10 dB below saturation

    def __post_init__(self) -> None:
        if not math.isfinite(self.gain_db):
            raise ValueError(f"gain_db={self.gain_db} must be a finite number of decibels")
        if self.envelope not in get_args(Literal["power", "vector"]):
            raise ValueError(f"envelope={self.envelope!r} is unknown; write 'power' or 'vector'")
        for name, largest in (("maxima", BANDS), ("hop", BLOCK)):
            if getattr(self, name) not in range(1, largest + 1):
                raise ValueError(f"{name}={getattr(self, name)} must be a whole number from 1 to {largest}")
        if not 0 < self.base_level < self.saturation_level / math.sqrt(10) < math.inf:
            raise ValueError(
                f"base_level={self.base_level} must be above 0 and at least 10 dB below "
                f"saturation_level={self.saturation_level}"
            )
        flattest, steepest = (100 * (1 - self._ten_below(ln_rho)) for ln_rho in (LARGEST_LN_RHO, 0.0))
        if not flattest < self.q < steepest:
            raise ValueError(f"q={self.q} must lie between {flattest:.1f} and {steepest:.1f} for these levels")

    @property
    def frame_rate(self) -> float:
        """Frames per second, as they really are (888.9 for hop 18)."""
        return SAMPLE_RATE / self.hop

    @cached_property
    def rho(self) -> float:
        """Compression of the LGF: the rho for which it falls by q percent 10 dB below saturation."""
        target = 1 - self.q / 100
        bracket = (0.0, LARGEST_LN_RHO)
        solution = root_scalar(lambda ln_rho: self._ten_below(ln_rho) - target, bracket=bracket, method="brentq")
        return math.exp(solution.root)

    def _ten_below(self, ln_rho: float) -> float:
        """The LGF 10 dB below saturation."""
        level = (self.saturation_level / math.sqrt(10) - self.base_level) / (self.saturation_level - self.base_level)
        return math.log1p(math.exp(ln_rho) * level) / math.log1p(math.exp(ln_rho))


class Statistics(NamedTuple):
    """How well a level suits the front end."""

    saturated: float  # fraction of the selected envelopes at or above the saturation level
    below_base: float  # fraction of the selected envelopes below the base level
    active_bands: float  # mean number of stimulated bands per frame


def emphasise(waveform: Waveform) -> Waveform:
    """CCi-MOBILE's pre-emphasis, y[n] = 0.5859 * 0.5006 * (x[n] - x[n-1]) + 0.0012 * y[n-1], without a sample loop."""
    rise = 0.5859 * 0.5006 * (waveform - F.pad(waveform, (1, -1)))
    output = rise
    for _ in range(5):  # every pass shrinks the error by 0.0012: 2e-18 after five
        output = rise + 0.0012 * F.pad(output, (1, -1))
    return output


def envelopes(waveform: Waveform, config: AceConfig = AceConfig()) -> Bands:
    """The envelope of every band; a full-scale sine in the middle of a band gives 1 at 0 dB without pre-emphasis.

    ValueError if the waveform has no samples.
    """
    samples = waveform.shape[-1]
    if samples == 0:
        raise ValueError("a waveform without samples has no frames; leave empty files out")
    signal = F.pad(waveform, (BLOCK - config.hop, -samples % config.hop))
    signal = (emphasise(signal) if config.pre_emphasis else signal) * 10 ** (config.gain_db / 20)
    blocks = signal.unfold(-1, BLOCK, config.hop).split(FRAMES_AT_ONCE, dim=1)
    return torch.cat([_band_envelopes(block, config) for block in blocks], dim=2)


def _band_envelopes(blocks: Tensor, config: AceConfig) -> Tensor:
    window = torch.hann_window(BLOCK, dtype=blocks.dtype, device=blocks.device)
    spectrum = torch.fft.rfft(blocks * window)[..., FIRST_BIN : FIRST_BIN + sum(BAND_BINS)]
    combine = _power_sum if config.envelope == "power" else _vector_sum
    return torch.stack([combine(bins) for bins in spectrum.split(BAND_BINS, dim=-1)], dim=1)


def _power_sum(bins: Tensor) -> Tensor:
    parts = torch.view_as_real(bins).flatten(-2)  # the norm of real numbers is ten times faster
    return torch.linalg.vector_norm(parts, dim=-1) / POWER_GAINS[bins.shape[-1]]


def _vector_sum(bins: Tensor) -> Tensor:
    signed = bins[..., ::2].sum(-1) - bins[..., 1::2].sum(-1)  # neighbouring bins are in antiphase
    return signed.abs() / VECTOR_GAINS[bins.shape[-1]]


def select(envelopes: Bands, config: AceConfig = AceConfig()) -> Bool[Tensor, "B 22 T"]:
    """The `maxima` largest bands of every frame; of equal ones the lowest is rejected first, as in NMT."""
    order = envelopes.flip(1).argsort(dim=1, descending=True, stable=True)
    chosen = torch.zeros_like(envelopes, dtype=torch.bool)
    return chosen.scatter(1, BANDS - 1 - order[:, : config.maxima], True)


def select_and_compress(envelopes: Bands, config: AceConfig = AceConfig()) -> Bands:
    """The pattern: in [0, 1] where a band is selected and at or above the base level, UNSELECTED elsewhere."""
    stimulated = select(envelopes, config) & (envelopes >= config.base_level)
    level = (envelopes - config.base_level) / (config.saturation_level - config.base_level)
    loudness = torch.log1p(config.rho * level.clamp(min=0)) / math.log1p(config.rho)
    return loudness.clamp(max=1).where(stimulated, UNSELECTED)


def ace(waveform: Waveform, config: AceConfig = AceConfig()) -> Bands:
    """The stimulation pattern of a 16 kHz waveform."""
    return select_and_compress(envelopes(waveform, config), config)


def inverse(pattern: Bands, config: AceConfig = AceConfig()) -> Bands:
    """The envelopes of a pattern by the inverse LGF; 0 where the pattern is negative, saturation where it exceeds 1."""
    level = torch.expm1(pattern.clamp(0, 1) * math.log1p(config.rho)) / config.rho
    envelope = config.base_level + (config.saturation_level - config.base_level) * level
    return envelope.masked_fill(pattern < 0, 0.0)


def statistics(waveform: Waveform, config: AceConfig = AceConfig()) -> Statistics:
    """How many of the selected envelopes saturate or fall below the base level; bands stimulated per frame."""
    envelope = envelopes(waveform, config)
    selected = envelope[select(envelope, config)]
    below_base = float((selected < config.base_level).double().mean())
    saturated = float((selected >= config.saturation_level).double().mean())
    return Statistics(saturated, below_base, config.maxima * (1 - below_base))
