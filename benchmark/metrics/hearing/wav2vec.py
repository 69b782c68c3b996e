"""wav2vec 2.0 base (Baevski et al., 2020) without its pre-training parts, its weights named as fairseq names them.

waveform "B N" at 16 kHz -> 7 convolutions, a frame every 320 samples -> norm, projection -> + positional convolution
    -> norm -> 12 transformer layers, each norm after its sum -> "B T 768"
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
SHORTEST = 400  # samples of one frame
POSITIONS, POSITION_GROUPS = 128, 16  # frames the positional convolution sees, and its groups


class Size(NamedTuple):
    """Widths; those of the base model by default."""

    channels: int = 512
    width: int = 768
    hidden: int = 3072
    heads: int = 12
    layers: int = 12


class Wav2Vec2(nn.Module):
    """Features of the last layer; without dropout and masking, so for inference alone."""

    def __init__(self, size: Size = Size()) -> None:  # noqa: B008
        super().__init__()
        self.feature_extractor = _Convolutions(size.channels)
        self.layer_norm = nn.LayerNorm(size.channels)
        self.post_extract_proj = nn.Linear(size.channels, size.width)
        self.encoder = _Encoder(size)

    def forward(self, waveform: Float[Tensor, "B N"]) -> Float[Tensor, "B T width"]:
        features = self.feature_extractor(waveform[:, None]).transpose(1, 2)
        return self.encoder(self.post_extract_proj(self.layer_norm(features)))


class _Convolutions(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList()
        for i, (kernel, stride) in enumerate(zip(KERNELS, STRIDES, strict=True)):
            convolution = nn.Conv1d(channels if i else 1, channels, kernel, stride, bias=False)
            norms = [nn.Identity(), nn.GroupNorm(channels, channels)] if i == 0 else []
            self.conv_layers.append(nn.Sequential(convolution, *norms, nn.GELU()))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.conv_layers:
            x = layer(x)
        return x


class _Encoder(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        positions = nn.Conv1d(size.width, size.width, POSITIONS, padding=POSITIONS // 2, groups=POSITION_GROUPS)
        self.pos_conv = nn.Sequential(positions)
        self.layer_norm = nn.LayerNorm(size.width)
        self.layers = nn.ModuleList(_Layer(size) for _ in range(size.layers))

    def forward(self, x: Tensor) -> Tensor:
        positions = self.pos_conv(x.transpose(1, 2))[..., :-1]  # an even kernel gives one frame too many
        x = self.layer_norm(x + F.gelu(positions).transpose(1, 2))
        for layer in self.layers:
            x = layer(x)
        return x


class _Layer(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.self_attn = _Attention(size.width, size.heads)
        self.self_attn_layer_norm = nn.LayerNorm(size.width)
        self.fc1, self.fc2 = nn.Linear(size.width, size.hidden), nn.Linear(size.hidden, size.width)
        self.final_layer_norm = nn.LayerNorm(size.width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(x + self.self_attn(x))
        return self.final_layer_norm(x + self.fc2(F.gelu(self.fc1(x))))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        projections = (projection(x) for projection in (self.q_proj, self.k_proj, self.v_proj))
        q, k, v = (each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in projections)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
