"""Distances of batched RGB images in [0, 1], one score per image: peak SNR and structural similarity.

As in waveform.py: float64 arithmetic, scores in the float type of the reference, NaN where an image is not finite or
too small, ValueError where the two shapes differ.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .waveform import decibels

Images = Float[Tensor, "_ _ _ _"]  # B 3 H W
Scores = Float[Tensor, " _"]  # B

WINDOW, SIGMA = 11, 1.5  # pixels
C1, C2 = 0.01**2, 0.03**2


def psnr(reference: Images, decoded: Images) -> Scores:
    """10 log10 of 1 over the mean squared error of all channels, in dB; 100 dB at most, where nothing is lost."""

    def measure(x: Tensor, y: Tensor) -> Tensor:
        error = (y - x).square().mean((1, 2, 3))
        return decibels(torch.ones_like(error), error)

    return _scored(measure, reference, decoded, smallest=1)


def ssim(reference: Images, decoded: Images) -> Scores:
    """Structural similarity (Wang et al., 2004, eq. 13), mean over the channels and all windows inside the image.

    Gaussian windows of 11 by 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03; NaN below 11 pixels of height or width.
    Like the authors' own code; torchmetrics counts windows over mirrored borders too, other scores for small images.
    """
    return _scored(_ssim, reference, decoded, smallest=WINDOW)


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    moments = torch.stack([x, y, x * x, y * y, x * y]).flatten(0, 2)[:, None]
    taps = torch.exp(-0.5 * ((torch.arange(WINDOW, device=x.device).to(x.dtype) - WINDOW // 2) / SIGMA).square())
    taps = taps / taps.sum()
    local = F.conv2d(F.conv2d(moments, taps[None, None, None, :]), taps[None, None, :, None])
    mean_x, mean_y, xx, yy, xy = local.unflatten(0, (5, *x.shape[:2]))[:, :, :, 0]
    luminance = (2 * mean_x * mean_y + C1) / (mean_x.square() + mean_y.square() + C1)
    covariance, variances = xy - mean_x * mean_y, xx - mean_x.square() + yy - mean_y.square()
    return (luminance * (2 * covariance + C2) / (variances + C2)).mean((1, 2, 3))


def _scored(measure: Callable[[Tensor, Tensor], Tensor], reference: Images, decoded: Images, smallest: int) -> Scores:
    if reference.shape != decoded.shape:
        raise ValueError(f"reference {tuple(reference.shape)} and decoded {tuple(decoded.shape)} must have one shape")
    if min(reference.shape[2:]) < smallest or not reference.numel():
        return reference.new_full((len(reference),), torch.nan)
    x, y = reference.double(), decoded.double()
    defined = x.isfinite().flatten(1).all(1) & y.isfinite().flatten(1).all(1)
    x, y = (each.where(defined[:, None, None, None], 0) for each in (x, y))
    return measure(x, y).where(defined, torch.nan).to(reference.dtype)
