"""VQ-VAE for small images (van den Oord et al. 2017, arXiv:1711.00937, section 4.1), as Vali & Backstrom 2022 use it.

    x -> conv 4, stride 2 -> ReLU -> conv 4, stride 2 -> 2 residual blocks -> ReLU -> conv 1 -> y -> Q
    Q -> conv 1 -> 2 residual blocks -> ReLU -> transposed conv 4, stride 2 -> ReLU -> transposed conv 4, stride 2 -> x^
    residual block: v + conv 1 (ReLU (conv 3 (ReLU v))),    256 channels everywhere

An image of 32 x 32 pixels becomes 8 x 8 positions of 64 latents, 16 pixels each. The quantizer decides what is learned
beside the mean squared error: its own losses are the paper's codebook and commitment terms.
Not in the paper: the 1x1 convolutions between 256 channels and 64 latents (van den Oord et al. have codewords of 256,
Vali & Backstrom of 64), and pixels that enter as [-1, 1].
"""

from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..quantizers.base import Codes, Latents, Maker, Quantizer
from .base import Codec, Coded

SIDE, FACTOR = 32, 4  # rows of an image; pixels between positions, both ways
ROWS = SIDE // FACTOR

Images = Float[Tensor, "B 3 32 W"]


class Residual(nn.Module):
    """v + conv 1 (ReLU (conv 3 (ReLU v)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)

    def forward(self, values: Tensor) -> Tensor:
        return values + self.narrow(self.wide(values.relu()).relu())


@final
class VQVAE(Codec):
    """Images "B 3 32 W" with values in [0, 1], their columns the last axis: 8 positions for every 4 columns.

    A width that 4 does not divide is extended by its last column.

    Args:
        make_quantizer: (channels, share of the rate) -> Quantizer.
        channels: of all hidden layers.
        latent_dim: D, width of the latents.
        blocks: residual blocks on each side.
    """

    paper = "van den Oord et al. 2017, arXiv:1711.00937, section 4.1"
    domain = "image"
    leading = (3, SIDE)
    stride = FACTOR
    positions_per_stride = ROWS
    lookahead = SIDE - 1
    default_bitrate = 0.6  # bit per pixel
    presets: ClassVar[dict[str, dict[str, Any]]] = {"vqvae-small": {"channels": 64}}
    training_options: ClassVar[dict[str, Any]] = {
        "steps": 5000,
        "batch_size": 32,
        "crop_seconds": 1.0,  # one image, whatever it says
        "learning_rate": 1e-3,
        "warmup": 0.1,
    }

    def __init__(self, make_quantizer: Maker, channels: int = 256, latent_dim: int = 64, blocks: int = 2) -> None:
        super().__init__()
        if channels < 1 or latent_dim < 1 or blocks < 0:
            raise ValueError(f"channels={channels}, latent_dim={latent_dim} must be positive, blocks={blocks} not < 0")
        self.encoder = nn.Sequential(
            nn.Conv2d(3, channels, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 4, 2, 1),
            *(Residual(channels) for _ in range(blocks)),
            nn.ReLU(),
            nn.Conv2d(channels, latent_dim, 1),
        )
        self.quantizer = make_quantizer(latent_dim, 1.0)
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_dim, channels, 1),
            *(Residual(channels) for _ in range(blocks)),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, channels, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, 3, 4, 2, 1),
        )

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return (self.quantizer,)

    def forward(self, signal: Tensor) -> Coded:
        """Training: the decoder's output as it is, for the loss. Evaluation: pixels within [0, 1]."""
        columns = signal.shape[-1]
        padded = nn.functional.pad(signal, (0, -columns % FACTOR, 0, 0), "replicate")
        quantized = self.quantizer(self.encoder(2 * padded - 1).flatten(2))
        images = self._images(quantized.latents, columns)
        return Coded(images if self.training else images.clamp(0, 1), (quantized,))

    @torch.no_grad()
    def decode(self, codes: Codes, shape: tuple[int, ...]) -> Tensor:
        latents = self.quantizer.decode(codes, self.quantizer.draw(codes.shape[0], codes.shape[2]))
        return self._images(latents, shape[-1]).clamp(0, 1)

    def _images(self, latents: Latents, columns: int) -> Images:
        return (self.decoder(latents.unflatten(2, (ROWS, -1)))[..., :columns] + 1) / 2
