"""The noise-to-mask ratio: how far the error of a decoded signal lies above what the clean signal hides.

10 log10 of the mean over frames and critical bands of N / M, as the total NMR of ITU-R BS.1387-1, section 4.5, but on
psychoacoustic model 1. N is the power of the error summed over a band's bins, M the mean over them of the masking
threshold's power, the bands are whole Barks. Frames in which nothing of the clean signal is above the threshold in
quiet are left out. 0 dBFS is taken for 90.3 dB SPL, so the ratio hangs on the level of the signals.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .hearing.psychoacoustics import PsychoacousticModel

FLOOR = -100.0  # dB; identical signals have it


@torch.no_grad()
def noise_to_mask_ratio(
    reference: Float[Tensor, "B N"], decoded: Tensor, rate: int, frame: int = 512
) -> Float[Tensor, " B"]:
    """Total NMR in dB at `rate` Hz, float64, lower is better, at least FLOOR.

    NaN where it is undefined: shapes that differ, samples that are not finite, a reference without an audible frame.
    ValueError where PsychoacousticModel refuses rate or frame.
    """
    model = PsychoacousticModel(rate, frame)
    undefined = torch.full((len(reference),), torch.nan, dtype=torch.float64, device=reference.device)
    if reference.shape != decoded.shape or reference.numel() == 0:
        return undefined
    clean, error = reference.double(), decoded.double() - reference.double()
    finite = (clean.isfinite() & error.isfinite()).all(1)
    clean, error = clean.nan_to_num(0, 0, 0), error.nan_to_num(0, 0, 0)
    masking = model(clean)
    bands = model.critical_bands(clean)
    noise = (masking.gain * model.power(error)) @ bands
    mask = 10 ** (masking.threshold / 10) @ (bands / bands.sum(0))
    audible = (masking.psd > masking.quiet).any(-1)
    ratio = ((noise / mask).mean(-1) * audible).sum(1) / audible.sum(1)
    floored = (10 * torch.log10(ratio)).clamp_min(FLOOR)
    return torch.where(finite & audible.any(1), floored, undefined)
