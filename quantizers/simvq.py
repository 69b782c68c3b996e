"""SimVQ: a frozen codebook seen through one learned linear layer, so that all codewords move together (Zhu et al.).

    c_k = W^T b_k,  b_k frozen, W "C C" learned        x -> nearest c_k;  training: straight-through

    loss = ||sg(x) - c||^2 + commitment * ||x - sg(c)||^2,  each the mean over positions and channels

A codeword that no latent chose moves with those that were chosen: that is the method's remedy for dead codewords, so
there is no replacement. Deviation: the frozen codebook starts like that of every other method, from k-means of training
latents and with W = I; `initialisation="normal"` gives the paper's random one.
"""

from typing import final

import torch
from torch import Tensor, nn

from .parts.vector import Codewords, Initialisation
from .parts.vq_losses import CommittedQuantizer


@final
class SimVQ(CommittedQuantizer):
    """SimVQ; `commitment` is beta of VQ-VAE, `loss_weight` scales both terms of its loss."""

    paper = "Zhu et al. 2024, arXiv:2411.02038"

    def __init__(
        self,
        channels: int,
        codebook_bits: float = 6.0,
        initialisation: Initialisation = "kmeans",
        commitment: float = 0.25,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(channels, codebook_bits, initialisation, 0.0, commitment, loss_weight)
        self.codebook.requires_grad_(False)
        self.layer = nn.Parameter(torch.eye(channels))

    def codewords(self) -> Codewords:
        return self.codebook @ self.layer

    @torch.no_grad()
    def place(self, codewords: Tensor) -> None:
        super().place(codewords)
        self.layer.copy_(torch.eye(self.channels))
