"""Rate controller: the weight of the rate in a loss, and the quantizer's scale, steered until coded bits meet a target.

    loss = distortion + weight * bits
    e = coded bits / target - 1, smoothed;    change of ln weight = I e + P (e - e before)

A PI controller in velocity form, on the logarithm of the weight. Zhen et al. (arXiv:2101.00054, II-A4)
start the weight at 0 and add or subtract 0.015; a constant like that suits one distortion measure. This weight is
multiplied, because the scale of the distortion is unknown: 1e-3 and 1e3 both occur. It starts next to nothing, not too
high: Adam remembers large gradients for a thousand steps.

The rate follows the weight at the pace of the learning rate only, so a quantizer that has a scale should also widen it
by `widening()` after every update ("direct"): the rate then holds within a few percent from the first steps on,
whatever the learning rate, and the weight only has to end the pull of the gradients against it.

What is steered is the rate of the rounded symbols that will be coded: at low rates the likelihood of their noisy
surrogate is off by half.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

LEAST, MOST = 1e-8, 1e8  # where the weight starts, and how far it may go
WIDENING = 0.05  # ln of the widening where the rate is twice its target


class Gains(NamedTuple):
    """Of the controller, tried on simulated and real trainings at learning rates 1e-3 to 1e-2."""

    integral: float
    proportional: float
    progressive: float  # how much stronger both are where the error is large
    settling: float  # both fall as 1 / (1 + settling * progress)
    smoothing: float  # share of the newest rate in the smoothed one


SLEW = 0.3  # the most that ln weight changes in a step
DIRECT = Gains(3.0, 10.0, 0.0, 20.0, 0.2)
ALONE = Gains(0.1, 20.0, 4.0, 4.0, 0.1)


class RateControl(nn.Module):
    """A weight that steers the coded bits per position to `target_bits`; without a target it stays `weight`.

    Args:
        target_bits: what update() is to be told in the end; None: nothing is steered.
        weight: of the bits per position where there is no target.
        direct: whether the quantizer applies `widening()`; the gains are made for the one or the other.

    Raises:
        ValueError: the target or the weight is not a positive number.
    """

    log_weight: Tensor
    error: Tensor
    updates: Tensor

    def __init__(self, target_bits: float | None, weight: float, direct: bool = False) -> None:
        super().__init__()
        for name, value in (("target_bits", target_bits), ("rate_weight", weight)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value} must be a positive number")
        self.target_bits, self.gains = target_bits, DIRECT if direct else ALONE
        self.register_buffer("log_weight", torch.tensor(math.log(weight if target_bits is None else LEAST)))
        self.register_buffer("error", torch.zeros(()))  # smoothed
        self.register_buffer("updates", torch.zeros(()))

    def weight(self) -> Tensor:
        """What bits per position are multiplied with, 0-dim."""
        return self.log_weight.exp()

    def widening(self) -> Tensor:
        """ln of the factor to widen steps, scales or spacings by after this update, 0-dim; 0 without a target."""
        return WIDENING * self.error

    @torch.no_grad()
    def update(self, coded_bits: float | Tensor, progress: float) -> None:
        """Take in the bits per position of rounded symbols, once after an optimiser step; progress runs from 0 to 1."""
        if self.target_bits is None:
            return
        bits = torch.as_tensor(coded_bits, dtype=self.error.dtype, device=self.error.device)
        now = (bits / self.target_bits - 1).clamp(-1, 1)
        share = (1 / (self.updates + 1)).clamp_min(self.gains.smoothing)
        before = torch.where(self.updates > 0, self.error, now)
        self.error.lerp_(now, share)
        self.updates += 1
        gains = self.gains
        ahead = self.error + gains.proportional / gains.integral * (self.error - before)
        change = gains.integral * ahead * (1 + gains.progressive * ahead.abs()) / (1 + gains.settling * progress)
        self.log_weight += change.clamp(-SLEW, SLEW)
        self.log_weight.clamp_(math.log(LEAST), math.log(MOST))
