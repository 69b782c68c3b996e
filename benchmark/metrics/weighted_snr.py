"""SNR in the perceptual domain of speech codecs, where noise shaped like the spectral envelope costs less than white.

Vali and Backstrom (NSVQ, IEEE Access 2022) report a "perceptually weighted signal to noise ratio (pSNR)", of a codec
at the bitrates of EVS, and give no formula. Chosen here is the weighting that EVS has from AMR-WB (3GPP TS 26.190,
sections 5.2 and 5.3), once per 20 ms; compare no score with theirs:

    reference -> pre-emphasis 1 - 0.68 / z -> linear prediction, order 16 -> A(z) -> W(z) = A(z / 0.92)

AMR-WB filters the pre-emphasised signal by A(z / 0.92) / (1 - 0.68 / z), which comes to W on the signal itself. With
the spectra X of the reference and Y of the decoded signal, the score is, summed over all frames and frequencies,

    10 log10( sum |W X|^2 / sum |W (Y - X)|^2 ).

Differences from AMR-WB: 16 kHz instead of 12.8 kHz, sine windows of 40 ms (as a codec's MDCT has) for the spectra and
their squares for the prediction, and no interpolation of A(z) between frames.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .waveform import SAMPLE_RATE, Scores, Waveforms, decibels, scored

FRAME_SECONDS = 0.02  # a window is two frames
ORDER = 16
PREEMPHASIS = 0.68
BANDWIDTH = 0.92  # gamma_1
LAG_WINDOW = 60.0  # Hz
WHITE_NOISE = 1.0001  # factor of the lag 0: -40 dB


def weighted_snr(reference: Waveforms, decoded: Waveforms, rate: int = SAMPLE_RATE) -> Scores:
    """Perceptually weighted SNR in dB, by this file's formula; meant for speech at 16 kHz.

    NaN and ValueError as for the measures of waveform.py.
    """

    def measure(x: Tensor, y: Tensor) -> Tensor:
        frame = round(FRAME_SECONDS * rate)
        weight = _weight(x, frame, rate)
        energies = [(weight * _spectra(each, frame).abs().square()).sum((1, 2)) for each in (x, y - x)]
        return decibels(*energies)

    return scored(measure, reference, decoded)


def _spectra(signal: Tensor, frame: int) -> Tensor:
    """Spectra under sine windows, "B T F"; the sum of their squares is the energy of the signal, times a constant."""
    frames = _frames(signal, frame)
    spectra = torch.fft.rfft(frames * _sine(frame, signal))
    spectra[..., 1:-1] *= math.sqrt(2)  # each stands for its negative frequency too
    return spectra


def _weight(signal: Tensor, frame: int, rate: int) -> Tensor:
    """|A(e^jw / 0.92)|^2 of every frame, "B T F"."""
    emphasised = signal - PREEMPHASIS * F.pad(signal, (1, 0))[:, :-1]
    predictor = _prediction(_frames(emphasised, frame) * _sine(frame, signal).square(), rate)
    powers = BANDWIDTH ** torch.arange(ORDER + 1, dtype=signal.dtype, device=signal.device)
    return torch.fft.rfft(predictor * powers, 2 * frame).abs().square()


def _prediction(frames: Tensor, rate: int) -> Tensor:
    """The coefficients 1, a_1 ... a_16 of A(z) by the autocorrelation method; 1, 0 ... 0 where a frame is silent."""
    spectra = torch.fft.rfft(frames, 2 * frames.shape[-1]).abs().square()
    lags = torch.arange(ORDER + 1, device=frames.device)
    smoothing = (-0.5 * (2 * torch.pi * LAG_WINDOW / rate * lags.to(frames.dtype)).square()).exp()
    correlation = torch.fft.irfft(spectra)[..., : ORDER + 1] * smoothing
    correlation[..., 0] *= WHITE_NOISE
    correlation = correlation / correlation[..., :1]
    silent = ~correlation[..., :1].isfinite()
    correlation = correlation.where(~silent, (lags == 0).to(frames.dtype))
    toeplitz = correlation[..., (lags[:-1, None] - lags[:-1]).abs()]
    solution = torch.linalg.solve(toeplitz, -correlation[..., 1:])
    return F.pad(solution, (1, 0), value=1.0)


def _frames(signal: Tensor, frame: int) -> Tensor:
    """ "B T 2F" with half of each window in the next one, zeros beyond both ends."""
    beyond = -signal.shape[1] % frame
    return F.pad(signal, (frame, frame + beyond)).unfold(1, 2 * frame, frame)


def _sine(frame: int, like: Tensor) -> Tensor:
    return (torch.pi / (2 * frame) * (torch.arange(2 * frame, device=like.device).to(like.dtype) + 0.5)).sin()
