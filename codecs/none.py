"""No codec: vectors go into the quantizer as they are and come back as it leaves them.

    x -> Q -> x^

What Vali & Backstrom (2022) compare quantizers with on toy data: nothing is trained but the quantizer itself.
"""

from typing import Any, ClassVar, final

import torch
from torch import Tensor

from ..quantizers.base import Codes, Maker, Quantizer
from .base import Codec, Coded


@final
class Bare(Codec):
    """Vectors "B C T": T vectors of C numbers, each a position.

    Trained by default as it suits the toy sets: 2,000 steps of 2,000 vectors at a constant learning rate, without
    warm-up, for there is nothing to warm up. The paper has 1e-3 and some ten times the steps.

    Args:
        make_quantizer: (channels, share of the rate) -> Quantizer.
        channels: C.
    """

    paper = "Vali & Backstrom 2022, doi:10.1109/ACCESS.2022.3147670, section IV"
    domain = "vector"
    causal = True
    default_bitrate = 8.0  # bit per vector
    training_options: ClassVar[dict[str, Any]] = {
        "steps": 2000,
        "batch_size": 2,
        "crop_seconds": 1.0,  # 1,000 vectors
        "learning_rate": 5e-3,
        "warmup": 0.0,
        "cooldown": 0.0,
    }

    def __init__(self, make_quantizer: Maker, channels: int = 2) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels={channels} must be at least 1")
        self.leading = (channels,)
        self.quantizer = make_quantizer(channels, 1.0)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return (self.quantizer,)

    def forward(self, signal: Tensor) -> Coded:
        quantized = self.quantizer(signal)
        return Coded(quantized.latents, (quantized,))

    @torch.no_grad()
    def decode(self, codes: Codes, shape: tuple[int, ...]) -> Tensor:
        return self.quantizer.decode(codes, self.quantizer.draw(codes.shape[0], codes.shape[2]))
