"""Blocks of the STFT-domain codec of Brendel et al. 2024 (arXiv:2405.08417), figures 5 to 7; all of them causal.

Started so that variances are kept: weights of variance 1 / fan-in, biases 0, the last layer of every residual branch
at a fifth of that, scales of TADE around 1.
"""

import math

from torch import Tensor, nn

from .streaming import CausalConv, CausalGRU, CausalTransposedConv, Frames, Memory

BRANCH = 0.2  # how strong a residual branch starts
STYLE = 0.5  # how strong a condition scales and shifts at the start
SLOPE = 0.2  # of LeakyReLU


def start(layer: nn.Module, gain: float = 1.0, bias: float = 0.0) -> nn.Module:
    """Weights of standard deviation gain / sqrt(fan-in) in every convolution of `layer`, and one bias."""
    for conv in layer.modules():
        if isinstance(conv, nn.Conv1d | nn.ConvTranspose1d):
            taps = (
                conv.kernel_size[0] // conv.stride[0] if isinstance(conv, nn.ConvTranspose1d) else conv.kernel_size[0]
            )
            nn.init.normal_(conv.weight, std=gain / math.sqrt(taps * conv.in_channels // conv.groups))
            if conv.bias is not None:
                nn.init.constant_(conv.bias, bias)
    return layer


class ChannelNorm(nn.Module):
    """Mean 0 and variance 1 over the channels of every frame: causal, and without a running state.

    It also stands where the paper has batch normalisation (decoder side): running averages would change in a forward,
    and a frame would be normalised by other items' statistics in training.
    """

    def __init__(self, channels: int, affine: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, elementwise_affine=affine)

    def forward(self, values: Frames) -> Frames:
        return self.norm(values.transpose(1, 2)).transpose(1, 2)


class ConvBlock(nn.Module):
    """[norm] GELU, channel-wise convolution, ChannelNorm, 1x1 to 2 C, GELU, 1x1 to C; added to the input."""

    def __init__(self, channels: int, kernel: int, norm: bool) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels) if norm else nn.Identity()
        self.depthwise = CausalConv(channels, channels, kernel, channelwise=True)
        self.inner = ChannelNorm(channels)
        self.widen, self.narrow = CausalConv(channels, 2 * channels), CausalConv(2 * channels, channels)
        start(self)
        start(self.narrow, BRANCH)
        self.gelu = nn.GELU()

    def forward(self, values: Frames, memory: Memory) -> Frames:
        branch = self.inner(self.depthwise(self.gelu(self.norm(values)), memory))
        return values + self.narrow(self.gelu(self.widen(branch, memory)), memory)


class DPCRNN(nn.Module):
    """[norm] GELU, 1x1, [norm] GELU, GRU, [norm] GELU, 1x1; added to the input."""

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ChannelNorm(channels, affine=True) if norm else nn.Identity() for _ in range(3))
        self.shuffle, self.gru, self.out = (
            CausalConv(channels, channels),
            CausalGRU(channels),
            CausalConv(channels, channels),
        )
        start(self)
        start(self.out, BRANCH)
        self.gelu = nn.GELU()

    def forward(self, values: Frames, memory: Memory) -> Frames:
        before, between, after = self.norms
        branch = self.shuffle(self.gelu(before(values)), memory)
        branch = self.gru(self.gelu(between(branch)), memory)
        return values + self.out(self.gelu(after(branch)), memory)


class TADE(nn.Module):
    """ChannelNorm, then scale and shift of every value by convolutions of a condition at the same frame rate.

    Returns the styled values and the condition as it was processed, which a second TADE may go on from.
    """

    def __init__(self, channels: int, condition: int, kernel: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.condition = CausalConv(condition, channels, kernel)
        self.scale, self.shift = (CausalConv(channels, channels, kernel) for _ in range(2))
        start(self.condition)
        start(self.scale, STYLE, bias=1.0)
        start(self.shift, STYLE)

    def forward(self, values: Frames, condition: Frames, memory: Memory) -> tuple[Frames, Frames]:
        processed = nn.functional.leaky_relu(self.condition(condition, memory), SLOPE)
        return self.scale(processed, memory) * self.norm(values) + self.shift(processed, memory), processed


class GatedTanh(nn.Module):
    """softmax over channels of one convolution times tanh of another."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.gate, self.value = (CausalConv(channels, channels, kernel, dilation=dilation) for _ in range(2))
        start(self)

    def forward(self, values: Frames, memory: Memory) -> Frames:
        return self.gate(values, memory).softmax(1) * self.value(values, memory).tanh()


class TADEResBlock(nn.Module):
    """TADE, gated tanh, TADE, dilated gated tanh; added to the input. The second condition goes on from the first."""

    def __init__(self, channels: int, condition: int, style_kernel: int = 3, gate_kernel: int = 5) -> None:
        super().__init__()
        self.styles = nn.ModuleList(TADE(channels, width, style_kernel) for width in (condition, channels))
        self.gates = nn.ModuleList(GatedTanh(channels, gate_kernel, dilation) for dilation in (1, 2))

    def forward(self, values: Frames, condition: Frames, memory: Memory) -> Frames:
        branch = values
        for style, gate in zip(self.styles, self.gates, strict=True):
            branch, condition = style(branch, condition, memory)
            branch = gate(branch, memory)
        return values + branch


class EncBlock(nn.Module):
    """Strided convolution of kernel S to C channels, two ConvBlocks."""

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.entry = start(CausalConv(inputs, channels, stride, stride))
        self.blocks = nn.ModuleList(ConvBlock(channels, kernel, norm=False) for _ in range(2))

    def forward(self, values: Frames, memory: Memory) -> Frames:
        values = self.entry(values, memory)
        for block in self.blocks:
            values = block(values, memory)
        return values


class DecBlock(nn.Module):
    """Two ConvBlocks, TADE on the quantized latents where `condition` > 0, transposed convolution of kernel 2 S."""

    def __init__(self, channels: int, outputs: int, kernel: int, stride: int, condition: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConvBlock(channels, kernel, norm=True) for _ in range(2))
        self.style = TADE(channels, condition, kernel) if condition else None
        self.exit = start(CausalTransposedConv(channels, outputs, stride))

    def forward(self, values: Frames, latents: Tensor, memory: Memory) -> Frames:
        """`latents` are repeated to the block's frame rate."""
        for block in self.blocks:
            values = block(values, memory)
        if self.style is not None:
            repeated = latents.repeat_interleave(values.shape[2] // latents.shape[2], 2)
            values, _ = self.style(values, repeated, memory)
        return self.exit(values, memory)
