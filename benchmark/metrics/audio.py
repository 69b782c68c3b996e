"""Intelligibility of one decoded signal against its reference; NaN where it is undefined, whatever the signals hold."""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from . import intelligibility
from .quality import score_or_nan

SAMPLE_RATE = 16_000  # Hz, of speech


def stoi(reference: ArrayLike, decoded: ArrayLike, rate: int = SAMPLE_RATE, extended: bool = False) -> float:
    """STOI (Taal et al., 2011) or extended STOI (Jensen and Taal, 2016) in float64; NaN below 0.4 s of speech."""
    return score_or_nan(lambda x, y: _stoi(x, y, rate, extended), reference, decoded, floor=0.0)


def _stoi(reference: NDArray[np.float64], decoded: NDArray[np.float64], rate: int, extended: bool) -> float:
    first, second = torch.from_numpy(np.stack([reference, decoded]))[:, None]
    return float(intelligibility.stoi(first, second, rate, extended))
