"""ResGLU: a neural speech codec of gated residual layers around a learned density (Byun et al. 2023).

    x -> frames of 512, half-sine -> encoder -> z_l in R^256 -> Q -> z^_l -> decoder -> half-sine, overlap-add -> x^

    encoder  conv 1-100 | block, GDN | gated conv 100-100 /2 | block, GDN | conv 100-1
    decoder  conv 1-100 | block, IGDN | conv 100-200, sub-pixel x2 | block, IGDN | conv 100-1
    block: six layers with dilations 1, 2, 4, ..., 32
    layer: x + conv 30-100 (a * sigmoid(g)),   a, g = conv 100-30 of x, dilated

Kernels of 9 samples; 2,352,442 parameters, the paper's 2.35 M. The half sine is applied to the 32 samples where frames
meet before the encoder and after the decoder, so that its squares add up to 1. The rate model is the quantizer's:
`fem` and `hpm` are the paper's, and HPM on the 256 latents of a frame has its 0.18 M parameters.
Deviations: where the paper leaves the choice, this reading meets its size: the 30 channels are those inside a layer,
the channel changers plain convolutions (the text calls them ResGLU layers), downsampling is gated and GDN's matrix is
full; the decoder's GDN is its inverse, as by Balle et al. 2017 (arXiv:1611.01704). Weights start so that they keep the
variance, the layers' sums small and the ends scaled for the level of speech. Blending factors are constant, where the
authors adjust them until the rate is met: the quantizers steer their rate themselves. That of the squared error is 600
instead of 60, for the paper's waveforms have a peak of 1, and speech at -25 dBFS one of about 0.3.
"""

from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from ..quantizers.base import Codes, Maker, Quantizer
from .base import Codec, Coded
from .parts.overlap import FRAME, HOP, FrameCoder, Overlap, SubPixel, convolution

KERNEL = 9
GATED = 2.0  # gain that a gate near one half asks for
BRANCH = 0.2  # of a layer's sum at the start
LEVEL = 0.1  # of speech, whose latents are to be near 1
BETA_FLOOR = 1e-6
GAMMA_START = 0.1, 1e-3  # on the diagonal of GDN's matrix and elsewhere


class GDN(nn.Module):
    """Generalised divisive normalisation, y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2); inverse: x_i * sqrt(...).

    beta and gamma are squares of what is trained, so that they stay positive.
    """

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        diagonal, elsewhere = GAMMA_START
        gamma = torch.full((channels, channels), elsewhere).fill_diagonal_(diagonal)
        self.root_beta = nn.Parameter(torch.ones(channels))
        self.root_gamma = nn.Parameter(gamma.sqrt())

    def forward(self, values: Tensor) -> Tensor:
        beta, gamma = self.root_beta.square() + BETA_FLOOR, self.root_gamma.square()
        power = nn.functional.conv1d(values.square(), gamma[:, :, None], beta)
        return values * (power.sqrt() if self.inverse else power.rsqrt())


class GatedLayer(nn.Module):
    """x + a gated, dilated convolution of x through fewer channels."""

    def __init__(self, channels: int, narrow: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(channels, 2 * narrow, KERNEL, dilation=dilation),
            nn.GLU(1),
            convolution(narrow, channels, KERNEL, gain=GATED * BRANCH),
        )

    def forward(self, values: Tensor) -> Tensor:
        return values + self.layers(values)


@final
class ResGLU(Codec):
    """Waveforms "B N", frames of 512 samples with 480 new ones, 256 latents a frame.

    Args:
        make_quantizer: (channels, share of the rate) -> Quantizer.
        channels: of the blocks.
        bottleneck: channels inside a layer.
        layers: of a block, with dilations 1, 2, 4 and so on.
    """

    paper = "Byun, Shin, Sung, Beack & Park, Interspeech 2023"
    domain = "waveform"
    causal = True
    stride = HOP
    lookahead = FRAME - 1  # the samples where two frames meet wait for the later one
    default_bitrate = 16.0
    presets: ClassVar[dict[str, dict[str, Any]]] = {"resglu-small": {"channels": 16, "bottleneck": 8, "layers": 3}}
    training_options: ClassVar[dict[str, Any]] = {
        "losses": {"time": 600.0, "global_noise_to_mask": 0.003, "local_noise_to_mask": 0.0005},
        "learning_rate": 5e-4,
        "batch_size": 8,  # of 16 frames each: the paper's 128
        "crop_seconds": 0.48,
    }

    def __init__(self, make_quantizer: Maker, channels: int = 100, bottleneck: int = 30, layers: int = 6) -> None:
        super().__init__()
        if channels < 1 or bottleneck < 1 or not 1 <= layers <= 6:
            raise ValueError(
                f"channels={channels} and bottleneck={bottleneck} must be at least 1, layers={layers} from 1 to 6"
            )
        self.overlap = Overlap("half_sine")
        self.coder = FrameCoder(*_networks(channels, bottleneck, layers))
        self.quantizer = make_quantizer(FRAME // 2, 1.0)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return (self.quantizer,)

    def forward(self, signal: Tensor) -> Coded:
        quantized = self.quantizer(self.coder.analyse(self.overlap.split(signal)))
        return Coded(self.overlap.join(self.coder.synthesise(quantized.latents), signal.shape[-1]), (quantized,))

    @torch.no_grad()
    def decode(self, codes: Codes, shape: tuple[int, ...]) -> Tensor:
        latents = self.quantizer.decode(codes, self.quantizer.draw(codes.shape[0], codes.shape[2]))
        return self.overlap.join(self.coder.synthesise(latents), shape[-1])


def _networks(channels: int, narrow: int, layers: int) -> tuple[nn.Sequential, nn.Sequential]:
    def block(inverse: bool) -> list[nn.Module]:
        return [*(GatedLayer(channels, narrow, 2**power) for power in range(layers)), GDN(channels, inverse)]

    encoder = nn.Sequential(
        convolution(1, channels, KERNEL, gain=1 / LEVEL),
        *block(inverse=False),
        convolution(channels, 2 * channels, KERNEL, stride=2, gain=GATED),
        nn.GLU(1),
        *block(inverse=False),
        convolution(channels, 1, KERNEL),
    )
    decoder = nn.Sequential(
        convolution(1, channels, KERNEL),
        *block(inverse=True),
        convolution(channels, 2 * channels, KERNEL),
        SubPixel(),
        *block(inverse=True),
        convolution(channels, 1, KERNEL, gain=LEVEL),
    )
    return encoder, decoder
