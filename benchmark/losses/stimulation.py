"""The training loss of stimulation patterns (Hinrichs et al., VQ FRAE, eq. 1)."""

import torch
from jaxtyping import Float
from torch import Tensor

Pattern = Float[Tensor, "B M T"]


def band_selection_loss(pattern: Pattern, decoded: Pattern, alpha: float) -> Float[Tensor, ""]:
    """((1 - alpha) * sum over Sel of (p - p^)^2 + alpha * sum over the rest of relu(p^)) / M, mean over frames.

    Sel are the bands with p >= 0. A band that is not selected costs only where the decoder selects it (p^ > 0).
    """
    selected = pattern >= 0
    envelopes = (1 - alpha) * (pattern - decoded).square()
    return torch.where(selected, envelopes, alpha * decoded.relu()).mean()
