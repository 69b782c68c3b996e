"""Vector quantization whose codebook follows exponential moving averages of the latents (arXiv:1711.00937, appendix A).

    N_k <- decay * N_k + (1 - decay) * n_k        n_k latents of the batch fell to codeword k
    m_k <- decay * m_k + (1 - decay) * sum of them          codeword k = m_k / N_k

Forward and backward are straight-through, with the commitment loss. A codeword that is not used keeps its place, as the
paper's equations say. Common implementations smooth the counts, N_k <- (N_k + s) / (sum + K s) * sum with s = 1e-5;
that pulls idle codewords to the origin, where some find use again. `smoothing` is s; 0 is the paper's method.
"""

from typing import final

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from .base import Bits, Codes, Latents, Scalar
from .parts.vector import Initialisation, VectorQuantizer


@final
class EMAVQ(VectorQuantizer):
    """EMA vector quantization; `commitment` weighs ||x - sg(c)||^2 against the codec's loss."""

    paper = "van den Oord et al. 2017, arXiv:1711.00937, appendix A.1"

    def __init__(
        self,
        channels: int,
        codebook_bits: float = 6.0,
        initialisation: Initialisation = "kmeans",
        replacement: float = 0.1,
        commitment: float = 0.25,
        decay: float = 0.99,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__(channels, codebook_bits, initialisation, replacement)
        if not 0 < decay < 1:
            raise ValueError(f"decay={decay} must lie between 0 and 1")
        if commitment < 0:
            raise ValueError(f"commitment={commitment} must be at least 0")
        self.commitment = commitment
        if smoothing < 0:
            raise ValueError(f"smoothing={smoothing} must be at least 0")
        self.decay, self.smoothing = decay, smoothing
        self.codebook.requires_grad_(False)
        self.register_buffer("counts", torch.ones(self.size))
        self.register_buffer("sums", self.codebook.detach().clone())

    counts: Tensor
    sums: Tensor

    def objective(self, latents: Latents, quantized: Latents, codes: Codes) -> tuple[Scalar, Bits]:
        _, bits = super().objective(latents, quantized, codes)
        return self.commitment * mse_loss(latents, self.decode(codes, latents[:, :0])), bits

    @torch.no_grad()
    def update(self, latents: Latents, codes: Codes, progress: float) -> None:
        vectors, chosen = latents.transpose(1, 2).reshape(-1, self.channels), codes.reshape(-1)
        used = torch.zeros_like(self.counts).index_add_(0, chosen, torch.ones_like(vectors[:, 0]))
        summed = torch.zeros_like(self.sums).index_add_(0, chosen, vectors)
        self.counts.lerp_(used, 1 - self.decay)
        self.sums.lerp_(summed, 1 - self.decay)
        sizes = self.counts
        if self.smoothing > 0:
            total = sizes.sum()
            sizes = (sizes + self.smoothing) / (total + self.size * self.smoothing) * total
        alive = (sizes > 1e-20)[:, None]  # a long idle codeword keeps its place instead of becoming 0 / 0
        self.codebook.copy_(torch.where(alive, self.sums / sizes[:, None].clamp_min(1e-20), self.codebook))
        super().update(latents, codes, progress)

    @torch.no_grad()
    def place(self, codewords: Tensor) -> None:
        super().place(codewords)
        self.counts.fill_(1.0)
        self.sums.copy_(codewords)

    @torch.no_grad()
    def move(self, targets: Tensor, donors: Tensor, noise: Tensor) -> None:
        super().move(targets, donors, noise)
        self.counts[targets] = self.counts[donors]
        self.sums[targets] = self.codebook[targets] * self.counts[targets, None]
