"""k-means VQ: a codebook that k-means fits once on the trained encoder's latents (Hinrichs, Bilsky & Ostermann).

The codec is trained without a quantizer first; then scikit-learn's k-means finds the codewords (III; 3 to 15 bit), and
they stay as they are: no gradient, no moving average, no replacement of idle codewords.

    codec trained unquantized -> latents -> k-means -> codebook;    x -> nearest codeword

The paper goes on with simultaneous perturbation of the codec and the codebook, for which the codebook is a Parameter.
Where gradient descent goes on instead, the gradient is copied to the input (straight-through, arXiv:1308.3432), and

    loss = commitment * ||x - c||^2,  the mean over positions and channels

keeps the latents near codewords that cannot follow them; without it they wander off, because nothing else pulls them
back. It is not the paper's; its weight is that of arXiv:1711.00937, and 0 leaves it out.
Deviation: from 7 bit on the seeds, and above some 11 bit the iterations too, are those of clustering.py, not
scikit-learn's.
"""

from typing import final

from torch.nn.functional import mse_loss

from .base import Bits, Codes, Latents, Scalar
from .parts.vector import VectorQuantizer


@final
class KMeansVQ(VectorQuantizer):
    """k-means VQ of round(2**codebook_bits) codewords; `commitment` weighs ||x - c||^2 against the codec's loss."""

    paper = "Hinrichs, Bilsky & Ostermann, Vector-Quantized Feedback Recurrent Autoencoders (2023)"

    def __init__(self, channels: int, codebook_bits: float = 6.0, commitment: float = 0.25) -> None:
        super().__init__(channels, codebook_bits, replacement=0.0)
        if commitment < 0:
            raise ValueError(f"commitment={commitment} must be at least 0")
        self.commitment = commitment
        self.codebook.requires_grad_(False)

    def objective(self, latents: Latents, quantized: Latents, codes: Codes) -> tuple[Scalar, Bits]:
        loss, bits = super().objective(latents, quantized, codes)
        if self.commitment > 0:
            loss = self.commitment * mse_loss(latents, self.decode(codes, latents[:, :0]))
        return loss, bits
