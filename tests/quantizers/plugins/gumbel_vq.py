"""Codes sampled in training by Gumbel noise on the distances, straight-through."""

import torch
from codecbench.quantizers.parts.vector import VectorQuantizer


class GumbelVQ(VectorQuantizer):
    """In training a code is drawn with probability softmax(-distance / temperature)."""

    def __init__(self, channels: int, codebook_bits: float = 6.0, temperature: float = 0.1) -> None:
        super().__init__(channels, codebook_bits)
        self.temperature = temperature
        self.codebook.requires_grad_(False)

    @property
    def noise_rows(self):
        return self.size if self.training else 0

    def random(self, batch, positions, start):
        uniform = torch.rand(batch, self.size, positions, dtype=self.float_type, device=self.device)
        return -(-uniform.clamp(1e-6, 1 - 1e-6).log()).log()

    def choose(self, scores, noise):
        return super().choose(scores - self.temperature * noise, noise)
