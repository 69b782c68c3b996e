"""The auxiliary loss of VQ-VAE, for methods whose surrogate does not train the codebook (arXiv:1711.00937, eq. 3)."""

from abc import ABC

from torch.nn.functional import mse_loss

from ..base import Bits, Codes, Latents, Scalar
from .vector import Initialisation, VectorQuantizer


class CommittedQuantizer(VectorQuantizer, ABC):
    """A vector quantizer with that loss; ValueError where `commitment`, beta of the paper, is negative."""

    def __init__(
        self,
        channels: int,
        codebook_bits: float,
        initialisation: Initialisation,
        replacement: float,
        commitment: float,
        loss_weight: float,
    ) -> None:
        super().__init__(channels, codebook_bits, initialisation, replacement)
        if commitment < 0:
            raise ValueError(f"commitment={commitment} must be at least 0")
        self.commitment, self.loss_weight = commitment, loss_weight

    def objective(self, latents: Latents, quantized: Latents, codes: Codes) -> tuple[Scalar, Bits]:
        _, bits = super().objective(latents, quantized, codes)
        loss = codebook_and_commitment(latents, self.decode(codes, latents[:, :0]), self.commitment)
        return self.loss_weight * loss, bits


def codebook_and_commitment(latents: Latents, codewords: Latents, commitment: float) -> Scalar:
    """||sg(x) - c||^2 + commitment * ||x - sg(c)||^2, each the mean over positions and channels."""
    return mse_loss(codewords, latents.detach()) + commitment * mse_loss(latents, codewords.detach())
