"""The auxiliary loss of VQ-VAE, for methods whose surrogate does not train the codebook (arXiv:1711.00937, eq. 3)."""

from torch.nn.functional import mse_loss

from ..base import Latents, Scalar


def codebook_and_commitment(latents: Latents, codewords: Latents, commitment: float) -> Scalar:
    """||sg(x) - c||^2 + commitment * ||x - sg(c)||^2, each the mean over positions and channels."""
    return mse_loss(codewords, latents.detach()) + commitment * mse_loss(latents, codewords.detach())
