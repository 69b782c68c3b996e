"""What quantizers in a projected space share: both projections, their start from data, decoding in one order.

    y in R^C -> W (y - m) / g + b -> bounded z in R^R -> one symbol per dimension -> z_hat -> W' z_hat + b' -> y_hat

The decoder sums in one order whatever the shape, so that a frame alone is decoded bit for bit as in a sequence.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from ..base import Codes, Latents, Noise, Quantizer, Stepper, require_finite

ProjectionType = Literal["linear", "mlp"]

MAX_LEVELS = 1 << 16
FIT_VECTORS = 8192  # as many training latents start the projections
# tried for components of unit variance before the bound; ties go to the first
SCALES = (0.7, 1.5, 1.2, 1.0, 0.85, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05)
NEGLIGIBLE = 1e-3  # a principal component of less than this share of the largest one's deviation is not coded
RIDGE = 1e-3  # of the least squares, against the variance of z_hat
BRANCH = 0.1  # how strong the MLP starts beside its linear part


class ProjectedQuantizer(Quantizer, ABC):
    """Projection to one bounded number per dimension, a symbol for each, and back; a method writes what lies between.

    Args:
        channels: C.
        levels: symbols per dimension; their number is R.
        projection: both ways linear, or a linear map plus an MLP of one hidden layer.
        hidden: width of that layer; by default 2 max(C, R).

    Raises:
        ValueError: fewer than 2 or more than 65536 levels, no dimension, an unknown projection, `hidden` without MLP.
    """

    instead: ClassVar[dict[str, str]] = {
        "alphabet": "the argument levels",
        "project": "bound()",
        "encode": "bound() or cells()",
        "decode": "points()",
        "surrogate": "substitute()",
        "stepper": "bound(), cells(), points() or substitute()",
        "fit": "bound() or middle",
    }
    centre: Tensor
    gain: Tensor

    def __init__(
        self, channels: int, levels: list[int], projection: ProjectionType = "linear", hidden: int | None = None
    ) -> None:
        super().__init__(channels)
        if not levels or min(levels) < 2 or max(levels) > MAX_LEVELS:
            raise ValueError(f"levels={levels} must be numbers from 2 to {MAX_LEVELS}, one per dimension")
        if projection not in ("linear", "mlp"):
            raise ValueError(f"projection={projection!r} must be linear or mlp")
        if hidden is not None and (projection == "linear" or hidden < 1):
            raise ValueError(f"hidden={hidden} is the width of projection='mlp': at least 1, or left out")
        self.levels = tuple(levels)
        width = 0 if projection == "linear" else hidden or 2 * max(channels, len(levels))
        self.project_in = Projection(channels, len(levels), width)
        self.project_out = Projection(len(levels), channels, width)
        self.project_out.linear.weight.data.copy_(self.project_in.linear.weight.data.T)
        self.register_buffer("centre", torch.zeros(channels, 1))
        self.register_buffer("gain", torch.ones(()))  # training does not depend on the latents' scale

    @abstractmethod
    def bound(self, projected: Tensor) -> Tensor:
        """W y + b -> z, both "B R T"."""

    @abstractmethod
    def cells(self, z: Tensor, noise: Noise) -> Codes:
        """The symbol of each dimension."""

    @abstractmethod
    def points(self, codes: Codes, noise: Noise) -> Tensor:
        """z_hat of the symbols, by operations on each element alone."""

    @abstractmethod
    def substitute(self, z: Tensor, codes: Codes, noise: Noise) -> Tensor:
        """What training puts in place of z_hat; the gradient reaches z."""

    @property
    def middle(self) -> Tensor:
        """W y + b that lies in the middle of the levels."""
        return torch.zeros_like(self.project_in.linear.bias)[:, None]

    @property
    @final
    def alphabet(self) -> tuple[int | None, ...]:
        return self.levels

    @final
    def project(self, latents: Latents) -> Tensor:
        """z "B R T" of latents."""
        return self.bound(self.project_in((latents - self.centre) / self.gain))

    @final
    def encode(self, latents: Latents, noise: Noise) -> Codes:
        return self.cells(self.project(latents.detach()).detach(), noise)

    @final
    def decode(self, codes: Codes, noise: Noise) -> Latents:
        return self.project_out.exactly(self.points(codes, noise)) * self.gain + self.centre

    @final
    def surrogate(self, latents: Latents, noise: Noise) -> tuple[Latents, Codes]:
        z = self.project(latents)
        codes = self.cells(z.detach(), noise)
        return self.project_out(self.substitute(z, codes, noise)) * self.gain + self.centre, codes

    @final
    def stepper(self, noise: Noise) -> Stepper:
        if self.bypass or self.project_in.inner is not None:
            return super().stepper(noise)
        inward = (self.project_in.linear.weight / self.gain).detach().T.contiguous()
        bias, centre, gain = self.project_in.linear.bias.detach(), self.centre[:, 0], self.gain
        frames = noise.unsqueeze(3).unbind(2)
        expand = self.project_out.stepper() if self.training else self.project_out.exact_stepper()

        def one(latents: Tensor, n: int) -> tuple[Tensor, Tensor]:
            z = self.bound(torch.addmm(bias, latents - centre, inward).unsqueeze(2))
            codes = self.cells(z, frames[n])
            z_hat = self.substitute(z, codes, frames[n]) if self.training else self.points(codes, frames[n])
            return expand(z_hat) * gain + centre, codes.squeeze(2)

        return one

    # -- the start from data ----------------------------------------------------------------------------------------

    @final
    @torch.no_grad()
    def fit(self, latents: Latents) -> None:
        """Start the projections from "B C T" training latents; ValueError if they are not finite.

        Principal components, those of large variance to many levels, rotated among dimensions of about as many, scaled
        so that the symbols tell most about them; then the least-squares map back. Without a start from data, the
        encoder's scale decides between idle and saturated levels, and a decoder that sees no information learns to do
        without.
        """
        require_finite(latents)
        vectors = latents.transpose(1, 2).reshape(-1, self.channels)
        chosen = torch.randperm(len(vectors))[:FIT_VECTORS].to(vectors.device)
        vectors = vectors[chosen].double()
        mean = vectors.mean(0)
        deviation = (vectors - mean).square().mean().sqrt()
        constant = bool(deviation <= 1e-6 * mean.abs().max())
        self.centre.copy_(mean[:, None])
        self.gain.copy_(torch.ones_like(deviation) if constant else deviation)
        if constant:
            self.project_in.linear.bias.fill_(0.1)  # off the border between two cells
            self._decode_to_centre()
            return
        data = ((vectors - mean) / deviation).T
        self._fit_input(data)
        self._fit_output(data)

    def _fit_input(self, data: Tensor) -> None:
        directions = _directions(data, self.levels)
        components = (directions @ data)[None]
        best = components.new_full((len(directions),), -1.0)
        scales = torch.ones_like(best)
        noise = self._noise_of_fit(components)
        for scale in SCALES:
            codes = self.cells(self.bound(scale * components + self.middle), noise)
            told = _correlation(components, self.points(codes, noise))
            better = told > best + 1e-4
            best, scales = torch.where(better, told, best), torch.where(better, scale, scales)
        self.project_in.linear.weight.copy_(scales[:, None] * directions)
        self.project_in.linear.bias.copy_(self.middle[:, 0])

    def _fit_output(self, data: Tensor) -> None:
        """Least squares from z_hat, and what the MLP beside it makes of z_hat, to the data."""
        z = self.bound(self.project_in(data[None].to(self.float_type)))
        noise = self._noise_of_fit(z)
        z_hat = self.points(self.cells(z, noise), noise)
        nn.init.zeros_(self.project_out.linear.weight)
        nn.init.zeros_(self.project_out.linear.bias)
        rest, z_hat = data - self.project_out(z_hat)[0].double(), z_hat[0].double()
        mean = z_hat.mean(1, keepdim=True)
        spread = z_hat - mean
        moments = spread @ spread.T
        moments.diagonal().add_(RIDGE * moments.diagonal().mean().clamp_min(1e-12))
        weight = torch.linalg.solve(moments, spread @ rest.T).T
        self.project_out.linear.weight.copy_(weight)
        self.project_out.linear.bias.copy_((rest.mean(1, keepdim=True) - weight @ mean)[:, 0])

    def _decode_to_centre(self) -> None:
        z = self.bound(self.project_in(torch.zeros_like(self.centre)[None]))
        noise = torch.zeros_like(z)
        self.project_out.linear.bias.sub_(self.project_out(self.points(self.cells(z, noise), noise))[0, :, 0])

    def _noise_of_fit(self, like: Tensor) -> Tensor:
        return torch.rand_like(like) - 0.5


class Projection(nn.Module):
    """W x + b on "B N T", with an MLP of one hidden layer of `hidden` ReLUs beside it where hidden > 0."""

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        nn.init.orthogonal_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.inner = nn.Linear(inputs, hidden) if hidden > 0 else None
        self.outer = nn.Linear(hidden, outputs) if hidden > 0 else None
        if self.outer is not None:
            self.outer.weight.data.mul_(BRANCH)
            nn.init.zeros_(self.outer.bias)

    def forward(self, values: Tensor) -> Tensor:
        return self._through(values, lambda layer, x: layer(x.transpose(1, 2)).transpose(1, 2))

    def exactly(self, values: Tensor) -> Tensor:
        """forward() summed in the order of the inputs: the same bits for every shape, unlike a matrix product."""
        return self._through(values, _in_order)

    def stepper(self) -> Callable[[Tensor], Tensor]:
        """forward() of "B N 1" to "B M" without the MLP, its transpose made once."""
        bias, weight = self.linear.bias.detach(), self.linear.weight.detach().T.contiguous()
        return lambda values: torch.addmm(bias, values.squeeze(2), weight)

    def exact_stepper(self) -> Callable[[Tensor], Tensor]:
        """exactly() of "B N 1" to "B M" without the MLP, its columns cut once."""
        bias, columns = self.linear.bias.detach(), self.linear.weight.detach().T.contiguous().unbind(0)

        def one(values: Tensor) -> Tensor:
            total = bias
            for column, value in zip(columns, values.unbind(1), strict=True):
                total = total + column * value
            return total

        return one

    def _through(self, values: Tensor, apply: Callable[[nn.Linear, Tensor], Tensor]) -> Tensor:
        out = apply(self.linear, values)
        if self.inner is None or self.outer is None:
            return out
        return out + apply(self.outer, apply(self.inner, values).relu())


def _in_order(layer: nn.Linear, values: Tensor) -> Tensor:
    total = layer.bias[:, None]
    for n in range(values.shape[1]):
        total = total + layer.weight[:, n, None] * values[:, n, None]
    return total


def _directions(data: Tensor, levels: tuple[int, ...]) -> Tensor:
    """ "R C" directions in which "C N" data have unit variance.

    Principal components by variance go to dimensions by levels. Dimensions of about as many levels (one octave) share
    theirs by a rotation that gives each the same variance: a component of little variance alone would be amplified
    until a small step of the encoder throws it about, and equal levels for unequal components cost more. Where
    components run out, dimensions share all of them.
    """
    variances, axes = torch.linalg.eigh(data @ data.T / data.shape[1])
    variances, axes = variances.flip(0), axes.flip(1)
    rank = int((variances > NEGLIGIBLE**2 * variances[0]).sum())
    deviations, axes = variances[:rank].sqrt(), axes[:, :rank]
    weights = data.new_zeros(len(levels), rank)
    taken = 0
    for octave in sorted({size.bit_length() for size in levels}, reverse=True):
        dims = [dim for dim, size in enumerate(levels) if size.bit_length() == octave]
        shared = slice(taken, taken + len(dims)) if taken + len(dims) <= rank else slice(0, rank)
        weights[dims, shared] = _even_rotation(len(dims), deviations[shared])
        taken += len(dims)
    return nn.functional.normalize(weights * deviations, dim=1) / deviations @ axes.T


def _even_rotation(dims: int, deviations: Tensor) -> Tensor:
    """A random "dims K" matrix of orthonormal rows (columns where K < dims) whose outputs' variances come near."""
    tries = [nn.init.orthogonal_(deviations.new_empty(dims, len(deviations))) for _ in range(16 if dims <= 16 else 1)]
    spreads = [(weights * deviations).norm(dim=1) for weights in tries]
    return tries[int(torch.stack([spread.min() / spread.max() for spread in spreads]).argmax())]


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Of each row of "1 R N"; 0 where one does not vary."""
    first, second = (values[0] - values[0].mean(1, keepdim=True) for values in (first, second))
    powers = first.square().sum(1) * second.square().sum(1)
    return (first * second).sum(1).abs() / powers.clamp_min(1e-30).sqrt()
