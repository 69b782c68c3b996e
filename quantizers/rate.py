"""Rate controller: the weight of the rate term of a loss, steered until the coded rate meets a target.

    loss = distortion + weight * bits,   e = ln(coded bits / target),   ln weight += I e + P (e - e before)

A PI controller in velocity form, on the logarithm of the weight. Byun et al. (after Zhen et al.,
doi:10.1109/LSP.2020.3039765, II-A4) start the weight at 0 and add 0.015 or subtract it; such a constant is right for one
distortion measure only. Here the weight is multiplied, because the scale of the distortion is unknown: 1e-3 and 1e3
both occur. It starts next to nothing, not too high: Adam would remember the large gradients for a thousand steps.
What is steered is the rate of the rounded symbols that will be coded; at low rates the likelihood of their noisy
surrogate misses it by half.
"""

import math

import torch
from torch import Tensor, nn

LEAST, MOST = 1e-8, 1e8  # where the weight starts, and how far it may go
INTEGRAL, PROPORTIONAL = 0.05, 2.5
SMOOTHING = 0.1  # share of the newest rate in the smoothed one
SLEW = 0.1  # the most that ln weight changes in a step
COOLDOWN = 0.8  # from this progress on the integral part fades: the learning rate falls, and the plant with it


class RateControl(nn.Module):
    """A weight that steers the coded bits per position to `target_bits`; without a target it stays `weight`.

    Raises:
        ValueError: the target or the weight is not a positive number.
    """

    log_weight: Tensor
    error: Tensor
    updates: Tensor

    def __init__(self, target_bits: float | None, weight: float) -> None:
        super().__init__()
        for name, value in (("target_bits", target_bits), ("rate_weight", weight)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value} must be a positive number")
        self.target_bits = target_bits
        self.register_buffer("log_weight", torch.tensor(math.log(weight if target_bits is None else LEAST)))
        self.register_buffer("error", torch.zeros(()))  # smoothed ln(coded bits / target)
        self.register_buffer("updates", torch.zeros(()))

    def weight(self) -> Tensor:
        """What bits per position are multiplied with, 0-dim."""
        return self.log_weight.exp()

    @torch.no_grad()
    def update(self, coded_bits: float | Tensor, progress: float) -> None:
        """Take in the bits per position of rounded symbols, once after an optimiser step; progress runs from 0 to 1."""
        if self.target_bits is None:
            return
        bits = torch.as_tensor(coded_bits, dtype=self.error.dtype, device=self.error.device)
        now = (bits / self.target_bits).clamp(math.exp(-1), math.exp(1)).log()
        share = torch.maximum(1 / (self.updates + 1), torch.full_like(self.updates, SMOOTHING))
        smoothed = self.error + share * (now - self.error)
        turn = torch.where(self.updates > 0, smoothed - self.error, torch.zeros_like(smoothed))
        fade = min(1.0, (1.0 - progress) / (1.0 - COOLDOWN))
        change = (fade * INTEGRAL * smoothed + PROPORTIONAL * turn).clamp(-SLEW, SLEW)
        self.log_weight.copy_((self.log_weight + change).clamp(math.log(LEAST), math.log(MOST)))
        self.error.copy_(smoothed)
        self.updates += 1
