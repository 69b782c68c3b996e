"""Distance of batched vectors."""

import torch
from jaxtyping import Float
from torch import Tensor


def mse(reference: Float[Tensor, "B C N"], decoded: Float[Tensor, "B C N"]) -> Float[Tensor, " B"]:
    """Mean squared error of a number, in float64."""
    errors = (reference.double() - decoded.double()).square()
    return torch.stack([error.mean() for error in errors])
