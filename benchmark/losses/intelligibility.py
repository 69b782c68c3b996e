"""Intelligibility as an objective (Hinrichs et al., VQ FRAE, II-G)."""

import torch
from jaxtyping import Float
from torch import Tensor

Scores = Float[Tensor, "*items"]


def balanced_vstoi(coded: Scores, uncoded: Scores, limit: float) -> Scores:
    """Eq. 3: the coded pattern's VSTOI, what it gains over the uncoded one's bent to at most 1 / limit (the paper's L).

        uncoded + tanh(limit * gain) / limit  where  gain = coded - uncoded >= 0,  else  coded

    Differentiable, with slope 1 where nothing is gained; NaN stays NaN. ValueError unless the limit is above 1.
    """
    if not limit > 1:
        raise ValueError(f"limit={limit} must be above 1; VSTOI may then gain up to 1 / limit")
    gain = coded - uncoded
    return torch.where(gain < 0, coded, uncoded + torch.tanh(limit * gain) / limit)


def mean_score(scores: Float[Tensor, "*P B"]) -> Float[Tensor, "*P"]:
    """The mean over the items that have a score: NaN ones are left out; NaN where none has."""
    return scores.nanmean(-1)
