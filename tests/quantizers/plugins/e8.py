"""The lattice E8: eight channels at a time, integer codes."""

import torch
from codecbench.quantizers.base import Quantizer, require_finite


class E8(Quantizer):
    """The nearest point of scale * E8: whole or half-whole coordinates of even sum; codes are twice these."""

    def __init__(self, channels: int, per_deviation: float = 1.0) -> None:
        if channels != 8:
            raise ValueError(f"channels={channels} must be 8, the dimensions of E8")
        super().__init__(channels)
        self.per_deviation = per_deviation
        self.register_buffer("scale", torch.ones(()))

    @property
    def alphabet(self):
        return (None,) * 8

    def fit(self, latents):
        require_finite(latents)
        self.scale.copy_(latents.std().clamp_min(1e-6) / self.per_deviation)

    def encode(self, latents, noise):
        x = latents.detach() / self.scale
        whole, half = _d8(x), _d8(x - 0.5) + 0.5
        nearer = (x - whole).square().sum(1, keepdim=True) <= (x - half).square().sum(1, keepdim=True)
        return (2 * torch.where(nearer, whole, half)).long()

    def decode(self, codes, noise):
        return codes.to(self.float_type) / 2 * self.scale

    def surrogate(self, latents, noise):
        codes = self.encode(latents, noise)
        return latents + (self.decode(codes, noise) - latents).detach(), codes


def _d8(x):
    """The nearest whole numbers of even sum: where the sum is odd, the worst rounded one goes the other way."""
    whole = x.round()
    rest = x - whole
    worst = torch.zeros_like(x).scatter(1, rest.abs().argmax(1, keepdim=True), 1.0)
    odd = whole.sum(1, keepdim=True).remainder(2)
    return whole + odd * worst * torch.where(rest >= 0, 1.0, -1.0)
