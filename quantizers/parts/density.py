"""Densities of integers and their tables: the factorised one, Gaussians, and a network that is exact on integers."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv_transpose1d, leaky_relu, logsigmoid, softplus

from ..base import Codes, integer_counts

WIDTHS = (1, 3, 3, 3, 1)
REACH = 2048  # symbols on either side of the median that may have a column in a density's table
RARE = 2.0**-22  # columns end where the density falls below
SCALES, FRACTIONS, SPREAD = 64, 16, 128  # of Gaussians: rows of their tables, and columns on either side of the mean
LEAST_SCALE, PER_OCTAVE = -3, 8  # log2 of the smallest scale, and how many scales an octave has
FIT_SYMBOLS = 2048  # for the factorised density
WEIGHT_BITS, VALUE_BITS = 14, 8  # fractions of a weight and of an activation on integers
ONE = 1 << (WEIGHT_BITS + VALUE_BITS)
SLOPE = 2.0**-4  # of leaky ReLU below 0, exact on integers
WEIGHT_LIMIT, VALUE_LIMIT = 2.0**18, 2.0**20  # they saturate here: some thousand products add up below 2**53


class FactorizedDensity(nn.Module):
    """Cumulative densities of 43 parameters each, widths 1-3-3-3-1 (Balle et al., arXiv:1802.01436, appendix 6.1).

    h_k = softplus(H_k) x + b_k,  x <- h_k + tanh(a_k) tanh(h_k),  c(x) = sigmoid(h_4)
    """

    def __init__(self, densities: int = 1) -> None:
        super().__init__()
        self.densities = densities
        pairs = list(pairwise(WIDTHS))
        self.matrices = nn.ParameterList(torch.empty(densities, out, into) for into, out in pairs)
        self.biases = nn.ParameterList(torch.empty(densities, out, 1).uniform_(-0.5, 0.5) for _, out in pairs)
        self.factors = nn.ParameterList(torch.zeros(densities, out, 1) for _, out in pairs[:-1])
        self.spread(torch.ones(densities))

    def logits(self, points: Tensor) -> Tensor:
        """Of the cumulative density at points "D N"."""
        x = points.unsqueeze(1)
        for layer, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            x = softplus(matrix) @ x + bias
            if layer < len(self.factors):
                x = x + self.factors[layer].tanh() * x.tanh()
        return x.squeeze(1)

    def log2_mass(self, points: Tensor) -> Tensor:
        """log2 of the probability of the unit interval around each point "D N"."""
        low, high = self.logits(points - 0.5), self.logits(points + 0.5)
        side = torch.where(low + high > 0, -1.0, 1.0).to(low.dtype)  # where both tails are small, not both near 1
        first, second = logsigmoid(side * low), logsigmoid(side * high)
        return _log_difference(torch.maximum(first, second), torch.minimum(first, second)) / math.log(2)

    def streams(self, symbols: Tensor) -> Tensor:
        """log2_mass of symbols "B S T"; several densities are one a stream."""
        batch, streams, positions = symbols.shape
        if self.densities == 1:
            return self.log2_mass(symbols.reshape(1, -1)).view(symbols.shape)
        lined = symbols.transpose(0, 1).reshape(streams, -1)
        return self.log2_mass(lined).view(streams, batch, positions).transpose(0, 1)

    @torch.no_grad()
    def spread(self, scale: Tensor) -> None:
        """Make them roughly logistic, of these scales."""
        share = scale.view(-1, 1, 1) ** (-1 / len(self.matrices))
        for matrix in self.matrices:
            matrix.copy_(torch.log(torch.expm1(share / matrix.shape[1])).expand_as(matrix))

    @torch.enable_grad()
    def fit(self, symbols: Tensor) -> None:
        """Start from noisy symbols "B S T": their scale, then maximum likelihood."""
        lined = symbols.transpose(0, 1).reshape(self.densities, -1)
        self.spread((lined.std(1, correction=0) * math.sqrt(3) / math.pi).clamp_min(0.3))
        descend(self, lambda: -self.log2_mass(some(lined, FIT_SYMBOLS)).mean(), steps=100, rate=0.02)

    @torch.no_grad()
    def counts(self, codes: Codes) -> tuple[Tensor, int]:
        """Integer table rows "D K" around these codes, the last column an escape, and the symbol of column 0."""
        seen = codes.reshape(-1).cpu()
        middle = int(seen.median()) if len(seen) else 0
        symbols = torch.arange(middle - REACH, middle + REACH + 1)
        double = FactorizedDensity(self.densities).double()
        double.load_state_dict(self.state_dict())
        mass = double.log2_mass(symbols.double().expand(self.densities, -1)).exp2()
        kept = torch.isin(symbols, seen.unique()) | (mass > RARE).any(0)
        first, last = int(kept.nonzero()[0]), int(kept.nonzero()[-1])
        mass = mass[:, first : last + 1]
        escape = (1 - mass.sum(1, keepdim=True)).clamp_min(0)
        return integer_counts(torch.cat([mass, escape], 1)), int(symbols[first])


def descend(module: nn.Module, cost: Callable[[], Tensor], steps: int, rate: float) -> None:
    """A short training of all of a module's parameters, its learning rate falling to 0."""
    optimizer = torch.optim.Adam(module.parameters(), lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        cost().backward()
        optimizer.step()
    optimizer.zero_grad()


def some(values: Tensor, size: int) -> Tensor:
    """As many random entries along the last axis, where there are so many."""
    return values[..., torch.randperm(values.shape[-1])[:size].to(values.device)]


def gaussian_log2_mass(offset: Tensor, scale: Tensor) -> Tensor:
    """log2 of the normal probability of the unit interval `offset` from the mean (Byun et al., eq. 1)."""
    near, far = (offset.abs() - 0.5) / scale, (offset.abs() + 0.5) / scale
    return _log_difference(_log_upper_tail(near), _log_upper_tail(far)) / math.log(2)


def gaussian_counts() -> Tensor:
    """Integer tables of 64 scales times 16 fractions of the mean, int32; the last column is an escape."""
    scales = 2.0 ** (LEAST_SCALE + torch.arange(SCALES, dtype=torch.float64) / PER_OCTAVE)
    fractions = torch.arange(FRACTIONS, dtype=torch.float64) / FRACTIONS
    offsets = torch.arange(-SPREAD, SPREAD + 1) - fractions[:, None]
    mass = gaussian_log2_mass(offsets, scales[:, None, None]).exp2().flatten(0, 1)
    escape = (1 - mass.sum(1, keepdim=True)).clamp_min(0)
    return integer_counts(torch.cat([mass, escape], 1)).to(torch.int32)


def _log_upper_tail(x: Tensor) -> Tensor:
    return torch.special.erfcx(x / math.sqrt(2)).log() - x.square() / 2 - math.log(2)


def _log_difference(larger: Tensor, smaller: Tensor) -> Tensor:
    """ln(exp(larger) - exp(smaller)), finite where they are equal."""
    return larger + (-torch.expm1((smaller - larger).clamp_max(-1e-7))).log()


class RowConvolution(nn.Module):
    """A convolution along the entries of a vector; `upsampling` transposes it. ceil(L / stride) entries, or 2 L."""

    def __init__(self, into: int, out: int, kernel: int, stride: int = 1, upsampling: bool = False) -> None:
        super().__init__()
        start = nn.ConvTranspose1d(into, out, kernel) if upsampling else nn.Conv1d(into, out, kernel)
        self.weight = start.weight
        self.bias = nn.Parameter(torch.empty(out).uniform_(-0.1, 0.1))
        self.into, self.kernel, self.stride, self.upsampling = into, kernel, stride, upsampling

    def convolve(self, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Rows "N into L" under any weights of this shape."""
        if self.upsampling:
            return conv_transpose1d(values, weight, bias, self.stride, self.kernel // 2, output_padding=self.stride - 1)
        return conv1d(values, weight, bias, self.stride, self.kernel // 2)

    def convolve_exactly(self, values: Tensor) -> Tensor:
        """Whole numbers of 2**-8 in, whole numbers of 1 / ONE out."""
        weight = (self.weight.cpu().double() * (1 << WEIGHT_BITS)).round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        return self.convolve(values, weight, (self.bias.cpu().double() * ONE).round())

    def between(self, before: int, after: int) -> Callable[[Tensor], Tensor]:
        """ "N into * before" -> "N out * after", with the present weights."""
        if before > self.kernel:
            return lambda values: self.convolve(values.view(-1, self.into, before), self.weight, self.bias)[
                ..., :after
            ].flatten(1)
        units = torch.eye(self.into * before, dtype=self.weight.dtype, device=self.weight.device)
        matrix = self.convolve(units.view(-1, self.into, before), self.weight, None)[..., :after].flatten(1)
        return lambda values: torch.addmm(self.bias.repeat_interleave(after), values, matrix)  # ten times faster


class RowNetwork(nn.Module):
    """Three convolutions along the entries of a vector, leaky ReLU between them, cut to `lengths`."""

    def __init__(self, layers: tuple[RowConvolution, RowConvolution, RowConvolution], lengths: Sequence[int]) -> None:
        super().__init__()
        self.first, self.second, self.third = layers
        self.lengths = list(pairwise(lengths))

    def present(self) -> Callable[[Tensor], Tensor]:
        """ "N first" -> "N channels * last" with the present weights, channel by channel."""
        first, second, third = (layer.between(*pair) for layer, pair in zip(self._layers, self.lengths, strict=True))
        return lambda values: third(leaky_relu(second(leaky_relu(first(values), SLOPE)), SLOPE))

    @torch.no_grad()
    def exact(self, symbols: Tensor) -> Tensor:
        """Integers "N first" -> "N channels last" in whole numbers of 1 / ONE, the same on every machine.

        Weights and activations are integers carried in float64, where all their sums are exact in any order.
        """
        limit = VALUE_LIMIT / (1 << VALUE_BITS)
        values = symbols.cpu().double().clamp(-limit, limit).unsqueeze(1) * (1 << VALUE_BITS)
        for layer, (_, after) in zip(self._layers[:-1], self.lengths, strict=False):
            sums = layer.convolve_exactly(values)[..., :after]
            sums = torch.where(sums < 0, SLOPE * sums, sums)
            values = (sums / (1 << WEIGHT_BITS)).round().clamp(-VALUE_LIMIT, VALUE_LIMIT)
        return self.third.convolve_exactly(values)

    @property
    def _layers(self) -> tuple[RowConvolution, ...]:
        return self.first, self.second, self.third
