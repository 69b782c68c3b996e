"""Straight-through vector quantization with codebook and commitment loss, as in VQ-VAE (arXiv:1711.00937, eq. 3).

Forward: the nearest codeword. Backward: the gradient is copied to the input (straight-through, arXiv:1308.3432).

    loss = ||sg(x) - c||^2 + commitment * ||x - sg(c)||^2,  each the mean over positions and channels
"""

from typing import final

from .parts.vector import Initialisation
from .parts.vq_losses import CommittedQuantizer


@final
class StraightThroughVQ(CommittedQuantizer):
    """Straight-through VQ; `commitment` is beta of the paper, `loss_weight` scales both terms."""

    paper = "van den Oord et al. 2017, arXiv:1711.00937"

    def __init__(
        self,
        channels: int,
        codebook_bits: float = 6.0,
        initialisation: Initialisation = "kmeans",
        replacement: float = 0.1,
        commitment: float = 0.25,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(channels, codebook_bits, initialisation, replacement, commitment, loss_weight)
