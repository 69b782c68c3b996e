"""NAC: neural audio coding modules in cascade, each on what the ones before it left over (Zhen et al. 2020).

    s -> frames of 512 -> s^(1)                      s^ = Hann cross-fade of s^^(1) + ... + s^^(N)
    s^(i) -> F_enc -> z^(i) -> Q -> h^(i) -> F_dec -> s^^(i)         s^(i+1) = s^(i) - s^^(i)

    F_enc  conv 1-100 | bottleneck x2 | conv 100-100 /2 | bottleneck x2 | conv 100-1   512 samples -> 256 latents
    F_dec  conv 1-100 | bottleneck x2 | conv 100-100, sub-pixel x2 -> 50 | bottleneck x2 | conv 50-1
    bottleneck: x + conv 100-20, conv 20-20, conv 20-100

A module is Table I with biases, kernels of 9 samples: 465,372 parameters (the text rounds them to 450 K). N = 1 is the
plain codec, N > 1 cross-module residual learning (CMRL), whose modules are trained one after another and share the rate
evenly. The cross-fade is applied once, at the decoder, with a periodic window, whose halves add up to 1.
Not in the paper, and here: leaky ReLU of slope 0.2 after every convolution but a bottleneck's and a network's last;
weights that keep the variance, with bottlenecks that add little at first and the ends scaled for the level of speech:
under PyTorch's default start the codec learns more slowly.
Loss: the paper's L1 + 0.1 (L2 + L3 + L4) adds a squared error, log mel spectra, a weighted distance of spectra and a
noise-to-mask ratio, each in a unit of its own. Here the blend holds for gradients: the weights make them as 1 to 0.1
where speech at -25 dBFS has an error of 10 dB SNR that follows its envelope.
Deviations: the loss is that of the codec's output, so cross-fades are heard by it, and it looks at a cascade's sum, not
at each module's own error; to a module in training that is the same, for those before it are frozen.
"""

from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from ..quantizers.base import Codes, Maker, Quantizer
from .base import Codec, Coded
from .parts.overlap import FRAME, HOP, FrameCoder, Overlap, SubPixel, convolution

KERNEL, SLOPE = 9, 0.2
FOLLOWED = 1.4  # gain that leaky ReLU asks for
BRANCH = 0.2  # of a bottleneck's sum at the start
LEVEL = 0.1  # of speech, whose latents are to be near 1


class Bottleneck(nn.Module):
    """x + three convolutions of x through fewer channels."""

    def __init__(self, channels: int, narrow: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(channels, narrow, KERNEL, gain=FOLLOWED),
            nn.LeakyReLU(SLOPE),
            convolution(narrow, narrow, KERNEL, gain=FOLLOWED),
            nn.LeakyReLU(SLOPE),
            convolution(narrow, channels, KERNEL, gain=BRANCH),
        )

    def forward(self, values: Tensor) -> Tensor:
        return values + self.layers(values)


@final
class NAC(Codec):
    """Waveforms "B N", frames of 512 samples with 480 new ones, 256 latents a frame and module.

    Args:
        make_quantizer: (channels, share of the rate) -> Quantizer, called once per module.
        modules: N.
        channels: of the convolutions, an even number; the second half of a decoder has half as many.
        bottleneck: channels inside a bottleneck.
    """

    paper = "Zhen, Lee, Sung, Beack & Kim 2020, arXiv:2101.00054"
    domain = "waveform"
    causal = True
    stride = HOP
    lookahead = FRAME - 1  # the samples where two frames meet wait for the later one
    default_bitrate = 16.0
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "nac-2": {"modules": 2},
        "nac-small": {"channels": 32, "bottleneck": 16},
        "nac-2-small": {"modules": 2, "channels": 32, "bottleneck": 16},
    }
    training_options: ClassVar[dict[str, Any]] = {
        "losses": {"time": 1e4, "mel": 0.03, "priority_weighting": 0.05, "noise_modulation": 2e-4},
        "learning_rate": 2e-3,
        "later_phases": 0.1,
        "batch_size": 8,  # of 16 frames each: the paper's 128
        "crop_seconds": 0.48,
    }

    def __init__(self, make_quantizer: Maker, modules: int = 1, channels: int = 100, bottleneck: int = 20) -> None:
        super().__init__()
        if modules < 1 or channels < 2 or channels % 2 or bottleneck < 1:
            raise ValueError(
                f"modules={modules}, bottleneck={bottleneck} must be at least 1, channels={channels} even and positive"
            )
        self.overlap = Overlap("hann")
        self.cascade = nn.ModuleList(
            _Module(channels, bottleneck, make_quantizer(FRAME // 2, 1 / modules)) for _ in range(modules)
        )
        self.phases = tuple(f"cascade.{number}" for number in range(modules)) if modules > 1 else ("",)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return tuple(module.quantizer for module in self._modules_in_order())

    def forward(self, signal: Tensor) -> Coded:
        rest = self.overlap.split(signal)
        total, parts = torch.zeros_like(rest), []
        for module in self._modules_in_order()[: self.active_phases]:
            parts.append(module.quantizer(module.analyse(rest)))
            decoded = module.synthesise(parts[-1].latents)
            total, rest = total + decoded, rest - decoded
        return Coded(self.overlap.join(total, signal.shape[-1]), tuple(parts))

    @torch.no_grad()
    def decode(self, codes: Codes, shape: tuple[int, ...]) -> Tensor:
        total = torch.zeros((), device=codes.device)
        for module, part in zip(self._modules_in_order(), self.split(codes), strict=True):
            noise = module.quantizer.draw(part.shape[0], part.shape[2])
            total = total + module.synthesise(module.quantizer.decode(part, noise))
        return self.overlap.join(total, shape[-1])

    def _modules_in_order(self) -> list["_Module"]:
        return list(self.cascade)  # type: ignore[arg-type]


class _Module(FrameCoder):
    def __init__(self, channels: int, narrow: int, quantizer: Quantizer) -> None:
        half = channels // 2
        encoder = nn.Sequential(
            convolution(1, channels, KERNEL, gain=FOLLOWED / LEVEL),
            nn.LeakyReLU(SLOPE),
            *(Bottleneck(channels, narrow) for _ in range(2)),
            convolution(channels, channels, KERNEL, stride=2, gain=FOLLOWED),
            nn.LeakyReLU(SLOPE),
            *(Bottleneck(channels, narrow) for _ in range(2)),
            convolution(channels, 1, KERNEL),
        )
        decoder = nn.Sequential(
            convolution(1, channels, KERNEL, gain=FOLLOWED),
            nn.LeakyReLU(SLOPE),
            *(Bottleneck(channels, narrow) for _ in range(2)),
            convolution(channels, 2 * half, KERNEL, gain=FOLLOWED),
            SubPixel(),
            nn.LeakyReLU(SLOPE),
            *(Bottleneck(half, narrow) for _ in range(2)),
            convolution(half, 1, KERNEL, gain=LEVEL),
        )
        super().__init__(encoder, decoder)
        self.quantizer = quantizer
