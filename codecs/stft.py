"""The causal STFT-domain speech codec of Brendel et al. 2024 (arXiv:2405.08417), section IV, in its reading below.

    x -> STFT -> |S|^alpha -> EncBlock 1..6 -> DPCRNN -> TADEResBlock 1..6 -> y -> Q -> y^
                                 |________________________^ (their outputs)
    y^ -> DPCRNN -> DecBlock 6..1 -> |S|^(1/alpha) -> inverse STFT -> x^
     |____________________^ (TADE)

16 kHz; 320-sample Hann window, hop 160, FFT 512: 514 real numbers, 100 frames/s. Block 6 has stride 2: 50 positions/s
of d = 32 latents. A position is known when its 320 samples are, its last 160 decoded samples wait for the next
position: 480 samples, 30 ms. Both ends of that count, and the Hann window begins with a 0: `lookahead` is 478.

Table I says K, C and S of each block and Table II eight counts, of which the layers below meet all within 1 %:
K is the kernel of channel-wise convolutions and of TADE; EncBlocks begin with kernel S, DecBlocks end with 2 S; both
ConvBlocks widen C to 2 C and narrow it again, without affine norms; the decoder's TADE has full convolutions and comes
before the transposed one; TADEResBlock i is conditioned on EncBlock i, averaged to 50 frames/s.
Not in the paper, chosen here: ConvBlocks and DPCRNNs are residual. What is in use starts at the scale of speech: the
first layer divides by LEVEL, the last one multiplies by it, so that latents, which quantizers take their levels from,
keep the sound's level and vary by about 1. A norm over the latents' channels would hide that level, and learned half
as fast.
Deviations: ChannelNorm for batch normalisation (see tade.py), a linear stretch near silence (see compressed_stft.py).
"""

import math
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..quantizers.base import Codes, Latents, Maker, Quantizer
from .base import Codec, Coded
from .parts.compressed_stft import BINS, HOP, CompressedSTFT
from .parts.streaming import Memory, Streamer
from .parts.tade import DPCRNN, DecBlock, EncBlock, TADEResBlock, start

KERNELS, CHANNELS, STRIDES = (7, 5, 5, 5, 3, 3), (256, 128, 64, 64, 32, 32), (1, 1, 1, 1, 1, 2)  # Table I
LEVEL = 0.1  # deviation of compressed spectra of speech, about
SMALL = {"channels": [128, 64, 32, 32, 32, 32], "alpha": 0.5}


@final
class STFT(Codec):
    """Speech "B N" at 16 kHz.

    Args:
        make_quantizer: (channels, share of the rate) -> Quantizer.
        channels: C of blocks 1 to 6; the last is d, the width of the latents.
        alpha: exponent of the magnitudes; small ones make quiet bins count more.
        dpcrnn: recurrent layers on both sides; without: "No DPCRNN" of Table II.
        skips: TADEResBlocks on the encoder's outputs; without: "No skips".
        styling: TADE in the decoder; without: "No styling".
    """

    paper = "Brendel et al. 2024, arXiv:2405.08417, section IV"
    domain = "waveform"
    causal = True
    stride = HOP * math.prod(STRIDES)
    lookahead = stride + HOP - 2
    default_bitrate = 6.0
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "stft-small": SMALL,
        "stft-no-dpcrnn": {"dpcrnn": False},
        "stft-no-skips": {"skips": False},
        "stft-no-styling": {"styling": False},
    }
    training_options: ClassVar[dict[str, Any]] = {
        "losses": {"complex_stft": 1.0, "relative_time": 1.0, "compressed_stft": 1.0},
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "batch_size": 4,
        "crop_seconds": 1.0,
    }

    def __init__(
        self,
        make_quantizer: Maker,
        channels: list[int] | None = None,
        alpha: float = 0.3,
        dpcrnn: bool = True,
        skips: bool = True,
        styling: bool = True,
    ) -> None:
        super().__init__()
        widths = list(CHANNELS if channels is None else channels)
        if len(widths) != len(CHANNELS) or min(widths) < 1:
            raise ValueError(f"channels={widths} must be {len(CHANNELS)} positive numbers, one per block")
        latents = widths[-1]
        self.transform = CompressedSTFT(alpha)
        blocks = list(zip([2 * BINS, *widths], widths, KERNELS, STRIDES, strict=False))
        self.encoder = nn.ModuleList(EncBlock(*block) for block in blocks)
        self.encoder_rnn = DPCRNN(latents, norm=False) if dpcrnn else None
        self.skips = nn.ModuleList(TADEResBlock(latents, width) for width in widths if skips)
        self.quantizer = make_quantizer(latents, 1.0)
        self.decoder_rnn = DPCRNN(latents, norm=True) if dpcrnn else None
        condition = latents if styling else 0
        self.decoder = nn.ModuleList(
            DecBlock(width, before, kernel, stride, condition) for before, width, kernel, stride in reversed(blocks)
        )
        start(self.get_submodule("encoder.0.entry"), 1 / LEVEL)
        start(self.get_submodule(f"decoder.{len(blocks) - 1}.exit"), LEVEL)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return (self.quantizer,)

    def forward(self, signal: Tensor) -> Coded:
        samples = signal.shape[-1]
        padded = nn.functional.pad(signal, (0, -samples % self.stride))
        quantized = self.quantizer(self.analyse(padded, {}))
        return Coded(self._waveform(quantized.latents, samples), (quantized,))

    @torch.no_grad()
    def decode(self, codes: Codes, shape: tuple[int, ...]) -> Tensor:
        latents = self.quantizer.decode(codes, self.quantizer.draw(codes.shape[0], codes.shape[2]))
        return self._waveform(latents, shape[-1])

    def streamer(self) -> Streamer:
        """Encoder and decoder that take one or more positions (320 samples) at a time; output is 160 samples behind."""
        return Streamer(self)

    def analyse(self, signal: Float[Tensor, "B N"], memory: Memory) -> Latents:
        """Latents of whole positions that follow those of `memory`."""
        values, outputs = self.transform.analyse(signal, memory), []
        for block in self.encoder:
            values = block(values, memory)
            outputs.append(values)
        if self.encoder_rnn is not None:
            values = self.encoder_rnn(values, memory)
        for skip, condition in zip(self.skips, outputs, strict=False):
            factor = condition.shape[2] // values.shape[2]
            values = skip(values, nn.functional.avg_pool1d(condition, factor), memory)
        return values

    def synthesise(self, latents: Latents, memory: Memory) -> Float[Tensor, "B N"]:
        """320 samples a position, 160 behind."""
        values = latents if self.decoder_rnn is None else self.decoder_rnn(latents, memory)
        for block in self.decoder:
            values = block(values, latents, memory)
        return self.transform.synthesise(values, memory)

    def finish(self, memory: Memory) -> Float[Tensor, "B N"]:
        """The last 160 samples."""
        return self.transform.finish(memory)

    def _waveform(self, latents: Latents, samples: int) -> Float[Tensor, "B N"]:
        memory: Memory = {}
        whole = torch.cat([self.synthesise(latents, memory), self.finish(memory)], -1)
        return whole[..., HOP : HOP + samples]
