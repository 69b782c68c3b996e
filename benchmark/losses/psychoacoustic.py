"""Losses that let a codec err where nobody hears it, by the masking of psychoacoustic model 1.

Each takes the clean and the decoded waveform, "B N", and returns a scalar, the mean over frames and batch. The masking
is that of the clean waveform and has no gradient; where several losses share a model, compute it once:
`masking = loss.model(clean)`, then `loss(clean, decoded, masking)`. Errors and masks share one calibration and window.
Frames overlap by half. The papers' frames of 512 samples overlap by 32; under a Hann window that would leave the error
at their edges unheard.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..metrics.hearing.psychoacoustics import Calibration, Masking, PsychoacousticModel
from .spectral import MelBank

Waveform = Float[Tensor, "B N"]
Scalar = Float[Tensor, ""]


class PriorityWeighting(nn.Module):
    """sum_f w_f (|X_f| - |X^_f|)^2, w = log10(10^(p/10) / 10^(m/10) + 1) (Zhen et al. 2020, arXiv:2101.00054, eq. 1).

    X is the plain DFT of a frame, unwindowed and not divided by its length. The authors' published code compares levels
    in dB instead; this is the equation.
    """

    def __init__(
        self, sample_rate: int, frame: int = 512, hop: int | None = None, calibration: Calibration = "level"
    ) -> None:
        super().__init__()
        self.model = PsychoacousticModel(sample_rate, frame, hop, calibration)

    def forward(self, clean: Waveform, decoded: Waveform, masking: Masking | None = None) -> Scalar:
        mask = self.model(clean) if masking is None else masking
        weight = torch.log10(10 ** ((mask.psd - mask.threshold) / 10) + 1)
        before, after = (torch.fft.rfft(self.model.frames(waveform)).abs() for waveform in (clean, decoded))
        return (weight * (before - after).square()).sum(-1).mean()


class NoiseModulation(nn.Module):
    """max_f relu(n_f / m_f - 1), n the power of the error, m that of the masking threshold (Zhen et al. 2020, eq. 2).

    0 where no error is audible. The mean over frames of the maximum of each.
    """

    def __init__(
        self, sample_rate: int, frame: int = 512, hop: int | None = None, calibration: Calibration = "level"
    ) -> None:
        super().__init__()
        self.model = PsychoacousticModel(sample_rate, frame, hop, calibration)

    def forward(self, clean: Waveform, decoded: Waveform, masking: Masking | None = None) -> Scalar:
        error, mask = _error_and_mask(self.model, clean, decoded, masking)
        return (error / mask - 1).relu().amax(-1).mean()


class LogNoiseToMask(nn.Module):
    """sum over mel bands of log10(1 + N_b / M_b), summed over banks of 16, 32 and 64 bands (Byun et al. 2023, eq. 2).

    L_p^G with frames of 512 samples; L_p^L with frame=128 and hop=64, seven to a frame of 512. N_b and M_b are mel sums
    of the power of error and threshold. The paper names the frames, the banks and a "logarithmic noise-to-mask ratio",
    and leaves the formula to Byun et al., Interspeech 2022; the one here is a reconstruction. Its weights: 0.003 for
    L_p^G and 0.0005 for L_p^L, beside 60 for the squared error.
    """

    def __init__(
        self,
        sample_rate: int,
        frame: int = 512,
        hop: int | None = None,
        calibration: Calibration = "level",
        banks: Sequence[int] = (16, 32, 64),
    ) -> None:
        super().__init__()
        self.model = PsychoacousticModel(sample_rate, frame, hop, calibration)
        self.banks = nn.ModuleList(MelBank(bands, sample_rate, frame) for bands in banks)

    def forward(self, clean: Waveform, decoded: Waveform, masking: Masking | None = None) -> Scalar:
        error, mask = _error_and_mask(self.model, clean, decoded, masking)
        losses = [torch.log10(1 + bank(error) / bank(mask)).sum(-1).mean() for bank in self.banks]
        return torch.stack(losses).sum()


def _error_and_mask(
    model: PsychoacousticModel, clean: Waveform, decoded: Waveform, masking: Masking | None
) -> tuple[Tensor, Tensor]:
    """Powers of the error and of the masking threshold, "B T F", in the same units."""
    mask = model(clean) if masking is None else masking
    return mask.gain * model.power(decoded - clean), 10 ** (mask.threshold / 10)
