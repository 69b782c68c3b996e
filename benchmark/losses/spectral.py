"""Reconstruction losses of waveforms: in time, in mel bands, in STFTs of several resolutions.

Each takes the clean and the decoded waveform, "B N", and returns a scalar, the mean over frames and batch.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...codecs.parts.compressed_stft import HOP, CompressedSTFT
from ..metrics.hearing.psychoacoustics import PsychoacousticModel

Waveform = Float[Tensor, "B N"]
Scalar = Float[Tensor, ""]

MEL_FLOOR = 1e-7  # Kankanahalli 2018 (arXiv:1710.09064)
STFT_POWER_FLOOR = 1e-7  # of |S|^2; a sine below -110 dBFS
QUIET = 1e-3 * 2 / math.pi  # mean absolute value of a sine of amplitude 0.001
RESOLUTIONS = ((1024, 600, 120), (2048, 1200, 240), (512, 240, 50))  # FFT, window, hop: Yamamoto et al. 2020, Table 1


class TimeLoss(nn.Module):
    """Mean squared error of the samples: L1 of Zhen et al. 2020 (arXiv:2101.00054), section III.

    The paper sums over the samples of a frame; the mean makes a weight hold for any length. Its L1 is 512 times this.
    """

    def forward(self, clean: Waveform, decoded: Waveform) -> Scalar:
        return (clean - decoded).square().mean()


class RelativeTimeLoss(nn.Module):
    """Mean absolute error of the samples over the mean absolute value of the clean ones, of each item alone.

    No paper's: what makes quiet and loud crops count alike. The divisor is at least QUIET.
    """

    def forward(self, clean: Waveform, decoded: Waveform) -> Scalar:
        return ((clean - decoded).abs().mean(1) / clean.abs().mean(1).clamp_min(QUIET)).mean()


class CompressedSTFTLoss(nn.Module):
    """Energy of the error of STFTs with compressed magnitudes, |S|^alpha e^{j angle S}, over that of the clean ones.

    No paper's: frames of 20 ms in which phase counts and loud bins do not drown the others. Those of the whole batch
    are summed before the division, so that a crop of silence weighs nothing.
    """

    def __init__(self, alpha: float = 0.5) -> None:
        super().__init__()
        self.transform = CompressedSTFT(alpha)

    def forward(self, clean: Waveform, decoded: Waveform) -> Scalar:
        padding = (0, -clean.shape[-1] % HOP)
        before, after = (
            self.transform.analyse(nn.functional.pad(waveform, padding), {}) for waveform in (clean, decoded)
        )
        return (before - after).square().sum() / before.square().sum().clamp_min(STFT_POWER_FLOOR)


class MelLoss(nn.Module):
    """Difference of log mel spectra, in nepers: L2 of Zhen et al. 2020, as Kankanahalli 2018 has it.

    In every frame and bank of mel bands the root mean square of ln(mel + 1e-7) - ln(mel^ + 1e-7), where the bands hold
    sums of |X|^2 / frame; the mean over banks. Frames overlap by half under a Hann window, where the papers cut the
    signal into frames without one: a frame here is no unit of coding, and its edges are no part of the sound.
    """

    def __init__(self, sample_rate: int, frame: int = 512, banks: Sequence[int] = (8, 16, 32, 128)) -> None:
        super().__init__()
        self.model = PsychoacousticModel(sample_rate, frame)
        self.banks = nn.ModuleList(MelBank(bands, sample_rate, frame) for bands in banks)

    def forward(self, clean: Waveform, decoded: Waveform) -> Scalar:
        powers = [self.model.frame * self.model.power(waveform) for waveform in (clean, decoded)]
        total = clean.new_zeros(())
        for bank in self.banks:
            before, after = ((bank(power) + MEL_FLOOR).log() for power in powers)
            total = total + _root_mean_square(before - after).mean()
        return total / len(self.banks)


class MelBank(nn.Module):
    """Power in triangular mel bands (HTK) of height 1, 0 Hz to half the sample rate; empty bands are left out."""

    weights: Tensor

    def __init__(self, bands: int, sample_rate: int, frame: int) -> None:
        super().__init__()
        top = 2595 * math.log10(1 + sample_rate / 2 / 700)
        edges = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
        frequencies = torch.arange(frame // 2 + 1, dtype=torch.float64)[:, None] * sample_rate / frame
        rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
        falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
        weights = torch.minimum(rising, falling).clamp_min(0)
        self.register_buffer("weights", weights[:, weights.sum(0) > 0].float(), persistent=False)

    def forward(self, power: Float[Tensor, "B T F"]) -> Float[Tensor, "B T bands"]:
        return power @ self.weights.to(power.dtype)


class MultiResolutionSTFT(nn.Module):
    """Mean over resolutions of the relative and the logarithmic error of STFT magnitudes (Brendel et al. 2024,
    arXiv:2405.08417, eqs. 31-33): ||S - S^||_F / ||S||_F + ||ln S - ln S^||_1, the latter over the number of bins.

    They take it from Yamamoto et al. 2020 (arXiv:1910.11480, eqs. 4-6), and so do we where the printed equations fall
    short: the logarithm of eq. 33 wants magnitudes, its plain sum would be some 1e5 times eq. 32, and no resolutions
    are named. `phase` compares the complex STFTs in eq. 32, as its letters say.

    Args:
        resolutions: samples of FFT, window (Hann) and hop, of each.
        phase: whether eq. 32 is of complex STFTs.
        logarithmic: weight of eq. 33.
    """

    def __init__(
        self,
        resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS,
        phase: bool = False,
        logarithmic: float = 1.0,
    ) -> None:
        super().__init__()
        self.resolutions = tuple(resolutions)
        self.phase = phase
        self.logarithmic = logarithmic

    def forward(self, clean: Waveform, decoded: Waveform) -> Scalar:
        losses = [self._loss(clean, decoded, *sizes) for sizes in self.resolutions]
        return torch.stack(losses).mean()

    def _loss(self, clean: Waveform, decoded: Waveform, size: int, length: int, hop: int) -> Scalar:
        window = torch.hann_window(length, dtype=clean.dtype, device=clean.device)
        spectra = [
            torch.stft(waveform, size, hop, length, window, pad_mode="constant", return_complex=True)
            for waveform in (clean, decoded)
        ]
        before, after = (_magnitudes(spectrum) for spectrum in spectra)
        error = spectra[0] - spectra[1] if self.phase else before - after
        relative = torch.linalg.vector_norm(error, dim=(1, 2)) / torch.linalg.vector_norm(before, dim=(1, 2))
        return relative.mean() + self.logarithmic * (before.log() - after.log()).abs().mean()


def _magnitudes(spectrum: Tensor) -> Tensor:
    return torch.view_as_real(spectrum).square().sum(-1).clamp_min(STFT_POWER_FLOOR).sqrt()


def _root_mean_square(values: Tensor) -> Tensor:
    """Over the last axis; the gradient at zeros is 0."""
    return torch.linalg.vector_norm(values, dim=-1) / math.sqrt(values.shape[-1])
