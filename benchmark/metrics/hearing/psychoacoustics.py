"""Psychoacoustic model 1 (ISO 11172-3, D.1; Painter and Spanias 2000): the noise that a sound hides, by frequency.

frame -> window, FFT -> sound pressure levels p -> tonal and noise maskers -> those above the threshold in quiet q, the
stronger of any two within half a Bark -> the threshold each one spreads -> their powers and that of q add up to m

Letters: B batch, N samples, n samples of a frame, T frames, F = n / 2 + 1 bins. Levels are in dB, p_k = 90.302 +
10 log10 |X_k / n|^2, so that a full-scale sine in the middle of a bin has 78.261 dB under the Hann window. Frames start
at sample 0; the last one is filled up with zeros. Used by Zhen et al. 2020 (arXiv:2101.00054), section III-A.
A picture of one frame: `benchmark mask FILE.wav --at SECONDS --plot mask.png`.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ....datamodules.parts.sound import RATES

FULL_SCALE = 90.302  # dB of |X_k / n|^2 = 1
PEAK = 96.0  # dB of the loudest bin under calibration="peak"
POWER_FLOOR = 1e-30  # of |X_k / n|^2, far below 24 bit also where "peak" raises it
PROMINENCE = 7.0  # dB by which a tone stands out
REACHES = ((0.0, 2), (63 / 512 * 44_100, 3), (127 / 512 * 44_100, 6))  # from Hz: bins to each side that it overtops
LAST_TONE = 250 / 512 * 44_100  # Hz
FIRST_TONE = 3  # bin
DECIMATION = 0.5  # Bark
MASKED = (-3.0, 8.0)  # Bark around a masker
TONAL_OFFSET, NOISE_OFFSET = (0.275, 6.025), (0.175, 2.025)  # dB a Bark, dB below the masker
TO_NEPER = math.log(10) / 10  # e ** (TO_NEPER * level) is the power of a level in dB
LONGEST_FRAME = 8192  # samples; the tables grow with the square
FRAMES_AT_ONCE = 1024  # more need more memory, and are no faster

Waveform = Float[Tensor, "B N"]
Frames = Float[Tensor, "B T n"]
Spectra = Float[Tensor, "B T F"]
Calibration = Literal["level", "peak"]


class Masking(NamedTuple):
    """What a signal masks. Levels in dB."""

    psd: Spectra  # p
    threshold: Spectra  # m, the global masking threshold
    tonal: Spectra  # the tonal maskers that are left, -inf in all other bins
    noise: Spectra  # the noise maskers, likewise
    quiet: Float[Tensor, " F"]  # q, the absolute threshold of hearing
    gain: Float[Tensor, "B T 1"]  # the power of an error is gain * model.power(error) in the units of 10 ** (m / 10)


def bark(frequencies: Tensor) -> Tensor:
    """z(f), critical-band rate in Bark of frequencies in Hz."""
    return 13 * torch.atan(0.00076 * frequencies) + 3.5 * torch.atan((frequencies / 7500).square())


def threshold_in_quiet(frequencies: Tensor) -> Tensor:
    """q(f) in dB of frequencies above 0 Hz."""
    kilohertz = frequencies / 1000
    ear_canal = 6.5 * torch.exp(-0.6 * (kilohertz - 3.3).square())
    return 3.64 * kilohertz**-0.8 - ear_canal + 1e-3 * kilohertz**4


@dataclass(frozen=True)
class PsychoacousticModel:
    """Masking thresholds of signals at `sample_rate` Hz; under calibration "peak", the authors' of Zhen et al., a
    frame's loudest bin has 96 dB and no window is applied. ValueError for what cannot be.

    Where the sources leave a choice: tones are searched up to the bin whose neighbours are all there; limits given in
    Hz hold at every rate, distances in bins at every frame length; the critical bands are whole Barks of z(f), a noise
    masker lies at the geometric mean of its band's bins; q at 0 Hz is that of bin 1.
    """

    sample_rate: int
    frame: int = 512  # samples
    hop: int | None = None  # samples; None: half a frame
    calibration: Calibration = "level"

    def __post_init__(self) -> None:
        if not 16 <= self.frame <= LONGEST_FRAME or self.frame % 2:
            raise ValueError(
                f"frame={self.frame} must be an even number of at least 16 and at most {LONGEST_FRAME} samples"
            )
        if not 1 <= self.step <= self.frame:
            raise ValueError(f"hop={self.hop} must be a number of samples from 1 to frame={self.frame}")
        if not RATES[0] <= self.sample_rate <= RATES[1]:
            raise ValueError(f"sample_rate={self.sample_rate} must be from {RATES[0]} to {RATES[1]} Hz")
        if self.calibration not in get_args(Calibration):
            raise ValueError(f"calibration={self.calibration!r} is unknown; write 'level' or 'peak'")

    @property
    def step(self) -> int:
        """Samples from one frame to the next."""
        return self.frame // 2 if self.hop is None else self.hop

    def frames(self, waveform: Waveform) -> Frames:
        """All samples, in ceil((N - frame) / hop) + 1 frames and at least one."""
        missing = max(self.frame - waveform.shape[-1], 0)
        missing += -(waveform.shape[-1] + missing - self.frame) % self.step
        return F.pad(waveform, (0, missing)).unfold(-1, self.frame, self.step)

    def power(self, waveform: Waveform) -> Spectra:
        """|X_k / n|^2 of every frame, without calibration; differentiable."""
        frames = self.frames(waveform)
        if self.calibration == "level":
            frames = frames * self._tables(frames).window
        spectra = torch.view_as_real(torch.fft.rfft(frames))
        return spectra.square().sum(-1) / self.frame**2

    @torch.no_grad()
    def __call__(self, waveform: Waveform) -> Masking:
        """The masking of every frame; no gradient, it is that of the clean signal."""
        tables = self._tables(waveform)
        power = self.power(waveform)
        if self.calibration == "level":
            gain = torch.full_like(power[..., :1], 10 ** (FULL_SCALE / 10))
        else:  # a frame that level calibration puts below 0 dB is raised no further, so that silence stays silent
            gain = 10 ** (PEAK / 10) / power.amax(-1, keepdim=True).clamp_min(10 ** (-FULL_SCALE / 10))
        psd = 10 * torch.log10(power.clamp_min(POWER_FLOOR) * gain)
        parts = [_masking(part, tables) for part in psd.flatten(0, 1).split(FRAMES_AT_ONCE)]
        threshold, tonal, noise = (torch.cat(part).view_as(psd) for part in zip(*parts, strict=True))
        return Masking(psd, threshold, tonal, noise, tables.quiet, gain)

    def critical_bands(self, like: Tensor) -> Float[Tensor, "F bands"]:
        """1 where a bin belongs to a band, in the type and on the device of `like`; 0 Hz belongs to none."""
        return self._tables(like).bands

    def _tables(self, like: Tensor) -> "_Tables":
        return _tables(self.sample_rate, self.frame, like.dtype, like.device)


# -- one frame a row --------------------------------------------------------------------------------------------------


class _Tables(NamedTuple):
    """What hangs on rate, frame length, type and device alone; M = F + bands: tonal maskers by bin, noise by band."""

    window: Tensor  # " n"
    quiet: Tensor  # " F"
    reach: Tensor  # " F", 0 where no tone is looked for
    bands: Tensor  # "F bands", 1 where a bin belongs to a band
    centres: Tensor  # " bands", bins
    bin_of: Tensor  # " M"
    bark: Tensor  # " M"
    slope: Tensor  # "M F": nepers that the threshold in a bin rises with each dB of the masker
    base: Tensor  # "M F": what it has at 0 dB; -inf out of reach


@lru_cache(maxsize=32)
def _tables(rate: int, frame: int, dtype: torch.dtype, device: torch.device) -> _Tables:
    with torch.inference_mode(False), torch.no_grad():  # what is kept must serve training too
        frequencies = torch.arange(frame // 2 + 1, dtype=torch.float64) * rate / frame
        quiet = threshold_in_quiet(torch.cat([frequencies[1:2], frequencies[1:]]))
        barks = bark(frequencies)
        starts, reaches = torch.tensor(REACHES, dtype=torch.float64).T.contiguous()
        reach = reaches[torch.bucketize(frequencies, starts, right=True) - 1].long()
        reach[(frequencies > LAST_TONE) | (torch.arange(len(reach)) < FIRST_TONE)] = 0
        bands, centres = _critical_bands(barks)
        bin_of = torch.cat([torch.arange(len(barks)), centres])
        distance = barks - barks[bin_of, None]
        below, above = distance.clamp(-1, 0), (distance - 1).clamp_min(0)
        base = 6 * below + 17 * (distance + 1).clamp_max(0) - 17 * distance.clamp_min(0)
        for rows, (per_bark, fixed) in ((slice(0, len(barks)), TONAL_OFFSET), (slice(len(barks), None), NOISE_OFFSET)):
            base[rows] -= per_bark * barks[bin_of[rows], None] + fixed
        base[(distance < MASKED[0]) | (distance >= MASKED[1])] = -math.inf
        slope = 1 + 0.4 * below + 0.15 * above
        window = torch.hann_window(frame, dtype=torch.float64)
        floats = [window, quiet, bands, barks[bin_of], TO_NEPER * slope, TO_NEPER * base]
        window, quiet, bands, at, slope, base = (table.to(device, dtype) for table in floats)
        reach, centres, bin_of = (table.to(device) for table in (reach, centres, bin_of))
        return _Tables(window, quiet, reach, bands, centres, bin_of, at, slope, base)


def _critical_bands(barks: Tensor) -> tuple[Tensor, Tensor]:
    """Which bin above 0 Hz belongs to which band ("F bands"), and every band's centre; a band without bins is none."""
    number = barks.floor().long()
    number[0] = -1
    bands = (number[:, None] == number.unique()[1:]).double()
    logarithms = torch.arange(len(barks)).clamp_min(1).double().log()
    return bands, ((logarithms @ bands) / bands.sum(0)).exp().round().long()


def _masking(psd: Tensor, tables: _Tables) -> tuple[Tensor, Tensor, Tensor]:
    """Threshold, tonal and noise maskers, "rows F" each."""
    bins = psd.shape[1]
    levels = _decimated(_maskers(psd, tables), tables)
    level, masker = levels.topk(_most(levels))  # of the row with the most: none is left out
    spread = torch.addcmul(tables.base[masker], level[..., None], tables.slope[masker])
    threshold = 10 * torch.log10(torch.exp(TO_NEPER * tables.quiet) + spread.exp_().sum(1))
    noise = torch.full_like(psd, -math.inf).index_copy_(1, tables.centres, levels[:, bins:])
    return threshold, levels[:, :bins], noise


def _maskers(psd: Tensor, tables: _Tables) -> Tensor:
    """Levels of all maskers above the threshold in quiet, "rows M"; -inf where there is none."""
    power = torch.exp(TO_NEPER * psd)
    tones = _tones(psd, tables.reach)
    sums = F.pad(power, (1, 1)).unfold(1, 3, 1).sum(-1)
    free = power.masked_fill(_neighbourhood(tones, tables.reach), 0)
    powers = torch.cat([sums.masked_fill(~tones, 0), free @ tables.bands], dim=1)
    levels = powers.log() / TO_NEPER
    return levels.masked_fill(levels < tables.quiet[tables.bin_of], -math.inf)


def _tones(psd: Tensor, reach: Tensor) -> Tensor:
    """Local maxima that stand out by 7 dB from bins 2 ... reach to either side."""
    bins, farthest = psd.shape[1], int(reach.max())
    if farthest == 0:
        return torch.zeros_like(psd, dtype=torch.bool)
    beside = F.pad(psd, (farthest, farthest), value=math.inf)
    left = [beside[:, farthest - d : farthest - d + bins] for d in range(farthest + 1)]
    right = [beside[:, farthest + d : farthest + d + bins] for d in range(farthest + 1)]
    tones = (psd > left[1]) & (psd >= right[1]) & (reach > 0)
    for d in range(2, farthest + 1):
        tones &= (torch.maximum(left[d], right[d]) + PROMINENCE <= psd) | (reach < d)
    return tones


def _neighbourhood(tones: Tensor, reach: Tensor) -> Tensor:
    """The bins within reach of a tone, which count for no noise masker."""
    taken = torch.zeros_like(tones)
    for d in sorted({int(d) for d in reach.unique()} - {0}):
        near = F.max_pool1d((tones & (reach == d)).to(torch.float32)[:, None], 2 * d + 1, 1, d)
        taken |= near[:, 0] > 0
    return taken


def _decimated(levels: Tensor, tables: _Tables) -> Tensor:
    """Of any two maskers within half a Bark the stronger, all pairs at once (Painter and Spanias, step 3)."""
    level, masker = levels.topk(_most(levels))  # falling, equal ones in any order
    at = tables.bark[masker]
    close = (at[:, :, None] - at[:, None, :]).abs() < DECIMATION
    beaten = (close & (level[:, None, :] > level[:, :, None])).any(-1)
    return levels.scatter(1, masker, level.masked_fill(beaten, -math.inf))


def _most(levels: Tensor) -> int:
    return int((levels > -math.inf).sum(1).max()) if levels.numel() else 0
