"""Adversarial training of waveform codecs: three MelGAN discriminators, least squares, feature matching.

    L_adv  = E[sum_k (D_k(x^) - 1)^2]                                       (34)
    L_feat = E[sum_k sum_j |D_k^(j)(x) - D_k^(j)(x^)|] / (3 J)               (35)
    L_disc = E[sum_k (D_k(x) - 1)^2 + D_k(x^)^2]                             (37)

Equations: Brendel et al., scalar quantization in a causal STFT speech codec. Architecture: Kumar et al., MelGAN
(arXiv:1910.06711): the k-th discriminator sees the waveform after k - 1 average
poolings over 4 samples with stride 2.
Deviation: in (35) |.| is the mean over a feature map, not its sum, which would grow with the length of the crop.

The discriminators have an optimiser of their own, outside Lightning's, so that a step of the codec stays one step; its
state travels in the checkpoint by `state()` and `restore()`.
"""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

DISCRIMINATORS = 3
SHORTEST = 32  # samples of a waveform: the last discriminator sees a quarter of them, and reflects 7
SLOPE = 0.2  # of the leaky rectifiers
BETAS = (0.5, 0.9)  # of Adam, as in MelGAN

Waveform = Float[Tensor, "B N"]
Features = list[Tensor]  # of one discriminator, its decision last


class Discriminator(nn.Module):
    """One of MelGAN's: seven convolutions, the first kernels 15, four strided by 4 with 41 taps, then 5 and 3.

    Args:
        channels: after the first layer (16 in MelGAN); the strided layers multiply them by 4 up to 64-fold.
    """

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        widths = [channels, 4 * channels, 16 * channels, 64 * channels, 64 * channels]
        strided = [
            nn.Conv1d(before, after, 41, stride=4, padding=20, groups=max(1, before // 4))
            for before, after in pairwise(widths)
        ]
        first = nn.Conv1d(1, channels, 15, padding=7, padding_mode="reflect")
        last = [nn.Conv1d(widths[-1], widths[-1], 5, padding=2), nn.Conv1d(widths[-1], 1, 3, padding=1)]
        self.layers = nn.ModuleList(weight_norm(layer) for layer in (first, *strided, *last))

    def forward(self, waveform: Waveform) -> Features:
        """The output of every layer."""
        features, x = [], waveform.unsqueeze(1)
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number < len(self.layers) - 1:
                x = nn.functional.leaky_relu(x, SLOPE)
            features.append(x)
        return features


class Adversary(nn.Module):
    """The discriminators, what they say of a decoded waveform, and their training.

    Args:
        channels: of each discriminator, see there; a multiple of 4.
        learning_rate: of their Adam.
    """

    def __init__(self, channels: int, learning_rate: float) -> None:
        super().__init__()
        if channels < 4 or channels % 4:
            raise ValueError(f"discriminator_channels={channels} must be a multiple of 4")
        self.discriminators = nn.ModuleList(Discriminator(channels) for _ in range(DISCRIMINATORS))
        self.pool = nn.AvgPool1d(4, stride=2, padding=1, count_include_pad=False)
        self._optimizer = torch.optim.Adam(self.parameters(), lr=learning_rate, betas=BETAS)

    def forward(self, waveform: Waveform) -> list[Features]:
        """What every discriminator makes of a waveform."""
        features, scaled = [], waveform.unsqueeze(1)
        for discriminator in self.discriminators:
            features.append(discriminator(scaled.squeeze(1)))
            scaled = self.pool(scaled)
        return features

    def judge(self, clean: Waveform, decoded: Waveform) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """L_adv and L_feat, differentiable in `decoded`; the discriminators' own gradients stay as they are."""
        self.requires_grad_(False)
        with torch.no_grad():
            real = self(clean)
        fake = self(decoded)
        self.requires_grad_(True)
        adversarial = sum((features[-1] - 1).square().mean() for features in fake)
        pairs = [pair for one, other in zip(real, fake, strict=True) for pair in zip(one[:-1], other[:-1], strict=True)]
        matching = sum((one - other).abs().mean() for one, other in pairs) / len(pairs)
        return torch.as_tensor(adversarial), torch.as_tensor(matching)

    @torch.enable_grad()
    def learn(self, clean: Waveform, decoded: Waveform) -> Float[Tensor, ""]:
        """One step on L_disc, which is returned."""
        real, fake = self(clean), self(decoded.detach())
        losses = [(x[-1] - 1).square().mean() + y[-1].square().mean() for x, y in zip(real, fake, strict=True)]
        loss = torch.stack(losses).sum()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """Of the optimiser, for a checkpoint; the weights are the module's own."""
        return self._optimizer.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of state(), on the weights' device."""
        self._optimizer.load_state_dict(state)
