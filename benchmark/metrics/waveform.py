"""Distances of batched waveforms: signal-to-noise ratios and spectral distances.

Every function takes references and decoded signals "B N" and returns one score per item, in the float type of the
references; the arithmetic is float64. An item is NaN where a signal is not finite, where the reference is silent, or
where there are no samples; ValueError only where the two shapes differ. Decibels of a ratio stay within +-LIMIT, so
that one item decoded without an error does not make the mean of a test set infinite.
"""

import functools
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Waveforms = Float[Tensor, "_ _"]  # B N
Scores = Float[Tensor, " _"]  # B

SAMPLE_RATE = 16_000  # Hz
LIMIT = 100.0  # dB
ROUNDING = 1e-24  # share of a signal's energy
FRAME_SECONDS = 0.02
ACTIVE_RANGE = 40.0  # dB below the loudest frame of the reference, as in the level rule of the corpora
SEGMENT_LIMITS = (-10.0, 35.0)  # dB
SPECTRUM, SPECTRUM_HOP = 512, 128  # samples, of the log-spectral distance
SPECTRAL_RANGE = 80.0  # dB below the loudest bin of the reference
MEL_SPECTRUM, MEL_HOP, MELS = 1024, 256, 80
MEL_FLOOR = 1e-5  # of magnitudes, where a full-scale sine reaches 256
CEPSTRA = 13


# -- signal-to-noise ratios -------------------------------------------------------------------------------------------


def snr(reference: Waveforms, decoded: Waveforms) -> Scores:
    """10 log10 of the reference's energy over the energy of the error, in dB; no gain or offset is compensated."""
    return scored(lambda x, y: decibels(x.square().sum(1), (y - x).square().sum(1)), reference, decoded)


def si_sdr(reference: Waveforms, decoded: Waveforms) -> Scores:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019), of signals whose mean is removed.

    NaN where the reference is constant.
    """
    return scored(_si_sdr, reference, decoded)


def _si_sdr(x: Tensor, y: Tensor) -> Tensor:
    constant = x.var(1, correction=0) <= ROUNDING * x.square().mean(1)  # what is left of it is no signal
    x, y = (each - each.mean(1, keepdim=True) for each in (x, y))
    target = (x * y).sum(1, keepdim=True) / x.square().sum(1, keepdim=True) * x
    return decibels(target.square().sum(1), (y - target).square().sum(1)).where(~constant, torch.nan)


def segmental_snr(reference: Waveforms, decoded: Waveforms, rate: int = SAMPLE_RATE) -> Scores:
    """Mean SNR in dB over frames of 20 ms, each clipped to [-10, 35] dB (Hansen and Pellom, 1998).

    Active frames alone count: those within 40 dB of the loudest frame of the reference. What is left behind the last
    whole frame does not count; NaN below one frame.
    """
    return scored(functools.partial(_segmental_snr, round(FRAME_SECONDS * rate)), reference, decoded)


def _segmental_snr(length: int, x: Tensor, y: Tensor) -> Tensor:
    if x.shape[1] < length:
        return torch.full_like(x[:, 0], torch.nan)
    energy, error = (each.unfold(1, length, length).square().sum(2) for each in (x, y - x))
    active = (energy > 0) & (energy >= energy.amax(1, keepdim=True) * 10 ** (-ACTIVE_RANGE / 10))
    ratios = decibels(energy, error).clamp(*SEGMENT_LIMITS)
    return ratios.where(active, 0).sum(1) / active.sum(1)


def peak_snr(reference: Waveforms, decoded: Waveforms) -> Scores:
    """10 log10 of the squared peak of the reference over the mean squared error, in dB.

    The pSNR of papers on speech coding is another measure: see weighted_snr.
    """
    return scored(lambda x, y: decibels(x.abs().amax(1).square(), (y - x).square().mean(1)), reference, decoded)


# -- spectral distances -----------------------------------------------------------------------------------------------


def log_spectral_distance(reference: Waveforms, decoded: Waveforms) -> Scores:
    """Root mean square difference of log spectra over frequency, mean over frames, in dB (Gray and Markel, 1976).

    Hann windows of 512 samples every 128; magnitudes are raised to 80 dB below the loudest bin of the reference.
    """
    return scored(_log_spectral_distance, reference, decoded)


def _log_spectral_distance(x: Tensor, y: Tensor) -> Tensor:
    x, y = (_magnitudes(each, SPECTRUM, SPECTRUM_HOP) for each in (x, y))
    floor = x.amax((1, 2), keepdim=True) * 10 ** (-SPECTRAL_RANGE / 20)
    difference = 20 * (torch.maximum(x, floor).log10() - torch.maximum(y, floor).log10())
    return difference.square().mean(1).sqrt().mean(1)


def mel_distance(reference: Waveforms, decoded: Waveforms, rate: int = SAMPLE_RATE) -> Scores:
    """Mean absolute difference of log10 mel spectra, as papers on neural codecs report it.

    Hann windows of 1024 samples every 256; magnitudes; 80 triangles of height 1 up to half the rate, on the mel scale
    2595 log10(1 + f / 700 Hz); floor 1e-5. Papers differ in all of these: compare no score across papers.
    """
    mels = functools.partial(_log_mels, rate)
    return scored(lambda x, y: (mels(x) - mels(y)).abs().mean((1, 2)), reference, decoded)


def mel_cepstral_distortion(reference: Waveforms, decoded: Waveforms, rate: int = SAMPLE_RATE) -> Scores:
    """Mean over frames of 10 / ln 10 * sqrt(2 sum (c_k - c^_k)^2), k = 1 ... 13, in dB (Kubichek, 1993).

    c_k: cosine transform of the natural logarithms of the powers in mel_distance's bands, over their number; without
    c_0, so without the level, and without time warping: a codec keeps the time.
    """
    ranks, bands = (torch.arange(n, dtype=torch.float64) for n in (CEPSTRA + 1, MELS))
    transform = torch.cos(torch.pi / MELS * ranks[1:, None] * (bands + 0.5)) * (2 * math.log(10) / MELS)

    def distortion(x: Tensor, y: Tensor) -> Tensor:
        difference = transform.to(x.device) @ (_log_mels(rate, x) - _log_mels(rate, y))
        return 10 / math.log(10) * (2 * difference.square().sum(1)).sqrt().mean(1)

    return scored(distortion, reference, decoded)


def _log_mels(rate: int, signal: Tensor) -> Tensor:
    """log10, "B 80 T"."""
    mels = _triangles(rate).to(signal.device) @ _magnitudes(signal, MEL_SPECTRUM, MEL_HOP)
    return mels.clamp_min(MEL_FLOOR).log10()


@functools.cache
def _triangles(rate: int) -> Tensor:
    """Weights of the bins in each mel band, "80 513"."""
    highest = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, MELS + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.arange(MEL_SPECTRUM // 2 + 1, dtype=torch.float64) * rate / MEL_SPECTRUM
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp_min(0)


def _magnitudes(signal: Tensor, length: int, hop: int) -> Tensor:
    """Spectra of Hann windows centred on every hop-th sample, zeros beyond both ends, "B F T"."""
    window = torch.hann_window(length, dtype=signal.dtype, device=signal.device)
    return torch.stft(signal, length, hop, window=window, pad_mode="constant", return_complex=True).abs()


# -- shared -----------------------------------------------------------------------------------------------------------


def scored(measure: Callable[[Tensor, Tensor], Tensor], reference: Waveforms, decoded: Waveforms) -> Scores:
    """The measure of finite float64 signals, NaN for the items that have none; ValueError where the shapes differ."""
    if reference.shape != decoded.shape:
        raise ValueError(f"reference {tuple(reference.shape)} and decoded {tuple(decoded.shape)} must have one shape")
    if not reference.numel():
        return reference.new_full((len(reference),), torch.nan)
    x, y = reference.double(), decoded.double()
    defined = x.isfinite().all(1) & y.isfinite().all(1) & x.any(1)
    x, y = (each.where(defined[:, None], 1) for each in (x, y))
    return measure(x, y).where(defined, torch.nan).to(reference.dtype)


def decibels(signal: Tensor, error: Tensor) -> Tensor:
    """10 log10(signal / error) within +-LIMIT; -LIMIT where both are 0, as for a decoder that is silent."""
    return (10 * (signal / error).log10()).where(signal != 0, -LIMIT).clamp(-LIMIT, LIMIT)
