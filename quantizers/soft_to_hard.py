"""Soft-to-hard quantization: every latent to one of K trained kernels, softly at first (Agustsson et al. 2017).

    y = (x - offset) / scale                             per channel (ours, see below)
    a = softmax(-alpha * (y - beta)^2 / spacing^2)       membership of the K kernels beta
    training: x_hat = offset + scale * a^T beta          test: the nearest kernel, one code per channel

    loss = error_weight * |x - nearest|^2 + rate weight * H,   H = sum over channels of -sum_k p_k log2 p_k

p is the mean of a over the batch, so H has a gradient. The error of the hard assignment in the loss, and a rate weight
that follows the rate, are those of Zhen et al. (doi:10.1109/LSP.2020.3039765, II-A).
alpha grows exponentially from 2 to `hardness` over the first half of the training, in units of the spacing of kernels
where latents fall: a latent on a kernel gives each neighbour exp(-alpha) of that kernel's weight. Between two kernels
the membership turns within 2 / alpha of their spacing, at a slope of alpha / 2, and farther away the gradient vanishes:
4 leaves some to half of the latents, 16 to an eighth. The steep slopes of 8 and 16 can make a feedback loop diverge.

Deviations
- p is per channel, also where all channels share kernels: the coder's static table is per channel, and the entropy of
  a histogram pooled over channels is not what is coded.
- The rate weight is steered by what the hard codes cost, not by H, and so are the scales.
- offset and scale are learned: kernels shared by all channels fit latents of one scale only, and on fixed latents
  nothing else could lower the rate of one channel alone. With a target, `fit` starts at it: the scales of weak channels
  are raised to a common one (reverse water-filling).
- Kernels start evenly spaced over the range of the latents: k-means would pack them for a rate near log2 K.
- Zhen et al. speak of the distance |y - beta| in the softmax; it is squared here as by Agustsson et al.
"""

import math
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from .base import TABLE_TOTAL, Bits, Codes, Latents, Noise, Quantizer, Scalar, require_finite
from .parts.rate import RateControl

KERNELS = 17
SOFTEST = 2.0  # alpha at the start
HARDENED = 0.5  # progress from which on alpha stays, so that the rate weight settles
NEWEST = 0.3  # share of the newest batch in the running histogram
FIT_POSITIONS = 4096
OUTSIDE = 0.001  # share of the latents below the first kernel, and above the last one, at the start
ROOM = 0.75  # of the largest rate that the kernels can spend; for_rate takes more kernels beyond
MAX_KERNELS = 256


@final
class SoftToHard(Quantizer):
    """Soft-to-hard scalar quantization with a learned rate.

    Args:
        channels: C.
        kernels: K.
        shared_kernels: one set of kernels for all channels, or one each.
        target_bits: coded bits per position that training is steered to; None: the weight of the rate is constant.
        rate_weight: weight of the bits per position in the loss where there is no target.
        error_weight: of the mean squared discrepancy between latents and their nearest kernels.
        hardness: alpha at the end.
    """

    paper = "Agustsson et al. 2017, arXiv:1704.00648"
    rate_is_learned: ClassVar[bool] = True

    def __init__(
        self,
        channels: int,
        kernels: int = KERNELS,
        shared_kernels: bool = True,
        target_bits: float | None = None,
        rate_weight: float = 1e-3,
        error_weight: float = 0.25,
        hardness: float = 4.0,
    ) -> None:
        super().__init__(channels)
        if not 2 <= kernels <= MAX_KERNELS:
            raise ValueError(f"kernels={kernels} must lie between 2 and {MAX_KERNELS}")
        if target_bits is not None and not 0 < target_bits < channels * math.log2(kernels):
            raise ValueError(
                f"target_bits={target_bits} must lie between 0 and {channels * math.log2(kernels):.4g}, "
                f"what {kernels} kernels on {channels} channels can spend"
            )
        if error_weight < 0:
            raise ValueError(f"error_weight={error_weight} must be at least 0")
        if hardness < SOFTEST:
            raise ValueError(f"hardness={hardness} must be at least {SOFTEST:g}")
        self.size, self.error_weight, self.final_hardness = kernels, error_weight, hardness
        self.target_bits = target_bits
        groups = 1 if shared_kernels else channels
        self.kernels = nn.Parameter(torch.linspace(-2, 2, kernels).repeat(groups, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.offset = nn.Parameter(torch.zeros(channels))
        self.control = RateControl(target_bits, rate_weight, direct=True)
        self.register_buffer("hardness", torch.tensor(SOFTEST))
        self.register_buffer("histogram", torch.full((channels, kernels), 1 / kernels))

    hardness: Tensor
    histogram: Tensor

    @property
    def alphabet(self) -> tuple[int | None, ...]:
        return (self.size,) * self.channels

    def encode(self, latents: Latents, noise: Noise) -> Codes:
        return self._distances(latents.detach()).argmin(-1)

    def decode(self, codes: Codes, noise: Noise) -> Latents:
        channel = torch.arange(self.channels, device=codes.device)[:, None]
        values = nn.functional.embedding(codes + self.size * channel, self._all_kernels().reshape(-1, 1)).squeeze(-1)
        return self._restored(values)

    def surrogate(self, latents: Latents, noise: Noise) -> tuple[Latents, Codes]:
        distances = self._distances(latents)
        soft = (self._membership(distances) * self._all_kernels()[:, None]).sum(-1)
        return self._restored(soft), distances.detach().argmin(-1)

    def objective(self, latents: Latents, quantized: Latents, codes: Codes) -> tuple[Scalar, Bits]:
        """Evaluation counts the bits of the hard codes under the histogram that tables are made of."""
        if not self.training:
            costs = -_log2(self.histogram)
            bits = costs[:, None].expand(*codes.shape[1:], -1).expand(len(codes), -1, -1, -1)
            return latents.new_zeros(()), bits.gather(-1, codes[..., None])[..., 0].sum(1)
        membership = self._membership(self._distances(latents))
        bits = -(membership * _log2(membership.mean((0, 2)))[:, None]).sum((1, 3))
        error = (latents - self.decode(codes, latents[:, :0])).square().mean()
        return self.error_weight * error + self.control.weight() * bits.mean(), bits

    @torch.no_grad()
    def fit(self, latents: Latents) -> None:
        """Kernels over the range of standardised latents; with a target, scales at which the hard codes spend it."""
        require_finite(latents)
        values = latents.transpose(0, 1).reshape(self.channels, -1)
        deviation, mean = torch.std_mean(values, 1, correction=0)
        deviation = torch.where(deviation > 1e-6 * mean.abs(), deviation, 1.0)
        standard = ((values - mean[:, None]) / deviation[:, None]).reshape(len(self.kernels), -1)
        first, last = _quantile(standard, OUTSIDE), _quantile(standard, 1 - OUTSIDE)
        evenly = torch.linspace(0, 1, self.size, dtype=values.dtype, device=values.device)
        self.kernels.copy_(torch.where(first < last, torch.lerp(first, last, evenly), 4 * evenly - 2))
        self.offset.copy_(mean)
        few = values[None, :, torch.randperm(values.shape[1])[:FIT_POSITIONS].to(values.device)]
        low, high = deviation.log().min(), deviation.log().max() + 4
        for _ in range(16):
            least = low if self.target_bits is None else (low + high) / 2
            self.log_scale.copy_(deviation.log().clamp_min(least))
            self._count(self.encode(few, few[:, :0]), 1.0)
            low, high = (least, high) if self._coded_bits() > (self.target_bits or 0.0) else (low, least)

    @torch.no_grad()
    def update(self, latents: Latents, codes: Codes, progress: float) -> None:
        """Harden, count, steer."""
        hardening = min(progress / HARDENED, 1.0)
        self.hardness.fill_(SOFTEST * (self.final_hardness / SOFTEST) ** hardening)
        self._count(codes, NEWEST)
        # Miller and Madow's correction: the entropy of few symbols is biased low
        rare = ((self.histogram > 0).sum() - self.channels) / (2 * math.log(2) * codes[:, 0].numel() / NEWEST)
        self.control.update(self._coded_bits() + rare, progress)
        self.log_scale += self.control.widening()

    def fit_tables(self, codes: Codes) -> None:
        super().fit_tables(codes)
        self.histogram.copy_(self.table_counts.reshape(self.channels, self.size) / TABLE_TOTAL)

    @torch.no_grad()
    def coarsen(self, amount: float) -> None:
        self.log_scale += amount

    @classmethod
    def for_rate(cls, channels: int, bits: float, **fixed: Any) -> dict[str, Any]:
        """A target, and more kernels where the default ones cannot spend it with room to spare."""
        largest = ROOM * channels * math.log2(fixed.get("kernels", MAX_KERNELS))
        if not 0 < bits <= largest:
            raise ValueError(f"{channels} channels spend up to {largest:.5g} bit, not {bits:g}; nearest: {largest:.5g}")
        needed = math.ceil(2 ** (bits / (ROOM * channels)) - 1e-9)
        if "kernels" in fixed or needed <= KERNELS:
            return {"target_bits": bits}
        return {"target_bits": bits, "kernels": min(needed | 1, MAX_KERNELS)}

    def _all_kernels(self) -> Tensor:
        return self.kernels.expand(self.channels, -1)

    def _distances(self, latents: Tensor) -> Tensor:
        """Squared distances to the kernels, in units of their spacing: "B C T K"."""
        standard = (latents - self.offset[:, None]) * (-self.log_scale).exp()[:, None]
        apart = standard[..., None] - self._all_kernels()[:, None]
        return (apart / self._spacing()[:, None]).square()

    def _spacing(self) -> Tensor:
        """Distance of neighbouring kernels where latents fall, "G 1"."""
        kernels, order = self.kernels.detach().sort(1)
        gaps = nn.functional.pad(kernels.diff(dim=1)[:, None], (1, 1), mode="replicate")[:, 0]
        use = self.histogram.view(len(kernels), -1, self.size).mean(1).gather(1, order)
        return (use * (gaps[:, 1:] + gaps[:, :-1]) / 2).sum(1, keepdim=True).clamp_min(1e-6)

    def _membership(self, distances: Tensor) -> Tensor:
        return (-self.hardness * distances).softmax(-1)

    def _restored(self, standard: Tensor) -> Tensor:
        return self.offset[:, None] + self.log_scale.exp()[:, None] * standard

    def _count(self, codes: Codes, share: float) -> None:
        symbols = codes.transpose(0, 1).reshape(self.channels, -1)
        counts = torch.zeros_like(self.histogram).scatter_add_(
            1, symbols, torch.ones_like(symbols, dtype=self.histogram.dtype)
        )
        self.histogram.lerp_(counts / symbols.shape[1], share)

    def _coded_bits(self) -> Tensor:
        return -(self.histogram * _log2(self.histogram)).sum()


def _log2(shares: Tensor) -> Tensor:
    return shares.clamp_min(torch.finfo(shares.dtype).tiny).log2()


def _quantile(values: Tensor, share: float) -> Tensor:
    """Of each row of "G N", as "G 1"; unlike torch.quantile of any N."""
    return values.kthvalue(1 + round(share * (values.shape[1] - 1)), 1, keepdim=True).values
