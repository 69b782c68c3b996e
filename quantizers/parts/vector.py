"""What every vector quantizer shares: nearest codeword, start of the codebook, replacement of idle codewords.

Initialisation and replacement are policies that a method takes or leaves, so that a comparison changes one thing at a
time. A method writes `replace`, what training puts in place of a chosen codeword, and where it has them its auxiliary
loss or its own update; one that samples its codes in training writes `choose`; one whose codewords are computed from
parameters writes `codewords`, `place` and `move`. Training at once and frame by frame both derive from these.
"""

import math
from abc import ABC
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..base import Codes, Latents, Noise, Quantizer, StackedStepper, Stepper, require_finite
from ..stacking import over_variants
from .clustering import kmeans
from .nearest import chosen, lowest, scorer

Codewords = Float[Tensor, "K C"]
Scores = Float[Tensor, "N K"]
Initialisation = Literal["kmeans", "samples", "noisy_samples", "normal"]

MAX_BITS = 16.0
FIRST_REPLACEMENT, GROWTH, LAST_REPLACEMENT = 0.01, 1.35, 0.8  # shares of the training: often early, never at the end
FIT_VECTORS = 1 << 18  # a codebook starts from at most so many training vectors, or four for each codeword


class VectorQuantizer(Quantizer, ABC):
    """One codebook of round(2**codebook_bits) codewords for all C channels of a position.

    Args:
        channels: C.
        codebook_bits: log2 of the codebook's size; 1 to 16, need not be whole.
        initialisation: where the codebook starts when `fit` is called: k-means, random training latents, these plus
            N(0, 1) in every number (DOI 10.1109/ACCESS.2022.3147670, IV, on toy sets), or N(0, 1) alone.
        replacement: a codeword used in less than this share of the batches since the last replacement is replaced by
            a more active one plus small noise (DOI 10.1109/ACCESS.2022.3147670, III-C); 0 never replaces.
    """

    def __init__(
        self,
        channels: int,
        codebook_bits: float = 6.0,
        initialisation: Initialisation = "kmeans",
        replacement: float = 0.1,
    ) -> None:
        super().__init__(channels)
        if not 1.0 <= codebook_bits <= MAX_BITS:
            raise ValueError(f"codebook_bits={codebook_bits} must lie between 1 and {MAX_BITS:g}")
        if not 0.0 <= replacement < 1.0:
            raise ValueError(f"replacement={replacement} must be a share of the batches: at least 0 and below 1")
        self.size = round(2**codebook_bits)
        self.initialisation = initialisation
        self.replacement = replacement
        self.codebook = nn.Parameter(torch.empty(self.size, channels).uniform_(-1 / self.size, 1 / self.size))
        self.register_buffer("metric", torch.ones(channels))  # weights w of the distance ||w * (x - c)||
        self.register_buffer("batches_used", torch.zeros(self.size, dtype=torch.int64))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.register_buffer("replacements", torch.zeros((), dtype=torch.int64))

    instead: ClassVar[dict[str, str]] = {
        "alphabet": "the option codebook_bits",
        "encode": "codewords()",
        "decode": "codewords()",
        "surrogate": "replace() or choose()",
        "stepper": "replace(), prepare() or choose()",
        "stacked_stepper": "codewords()",
        "fit": "place()",
    }
    metric: Tensor
    batches_used: Tensor
    batches: Tensor
    replacements: Tensor

    @property
    @final
    def alphabet(self) -> tuple[int | None, ...]:
        return (self.size,)

    # -- what a method writes ---------------------------------------------------------------------------------------

    def codewords(self) -> Codewords:
        """All codewords; differentiable, computed from the Parameters at each call. Default: the codebook itself."""
        return self.codebook

    def replace(self, latents: Latents, codewords: Latents, noise: Noise) -> Latents:
        """What training puts in place of latents, given their codewords "B C T" and what prepare() made of the noise.

        It says value and gradient alike; a loop over frames asks for the value alone, with T = 1 and without a graph.
        Default: the codewords, whose gradient passes to the latents as it is (straight-through, arXiv:1308.3432).
        """
        return latents + (codewords - latents).detach()

    def prepare(self, noise: Noise) -> Noise:
        """What replace() is handed for noise "B R T": computed once, outside of a loop over frames. Default: itself."""
        return noise

    def choose(self, scores: Scores, noise: Float[Tensor, "N R"]) -> Int[Tensor, " N"]:
        """The codeword that training takes for each of N vectors; evaluation takes the nearest.

        Scores are half the squared distances to the codewords, but for a constant of each vector.
        Default: the lowest, and with it the nearest codeword.
        """
        return lowest(scores)

    # -- derived from it --------------------------------------------------------------------------------------------

    def surrogate(self, latents: Latents, noise: Noise) -> tuple[Latents, Codes]:
        """Codes by choose(), latents by replace(). A method that overrides it goes without the fast frame loop."""
        codes = self._chosen(latents, self.choose, noise)
        return self.replace(latents, self.decode(codes, noise), self.prepare(noise)), codes

    @final
    def encode(self, latents: Latents, noise: Noise) -> Codes:
        return self._chosen(latents, lambda scores, _: lowest(scores), noise)

    @final
    def decode(self, codes: Codes, noise: Noise) -> Latents:
        return nn.functional.embedding(codes[:, 0], self.codewords()).transpose(1, 2)

    @final
    def stepper(self, noise: Noise) -> Stepper:
        if self.bypass or (self.training and type(self).surrogate is not VectorQuantizer.surrogate):
            return super().stepper(noise)
        codebook = self.codewords().detach()
        offset, weights = scorer(codebook, self.metric)
        weights = weights.contiguous()

        def evaluated(latents: Tensor, n: int) -> tuple[Tensor, Tensor]:
            codes = lowest(torch.addmm(offset, latents, weights, alpha=-1))
            return codebook[codes], codes.unsqueeze(1)

        hooks = ("replace", "choose")
        if not self.training or all(getattr(type(self), hook) is getattr(VectorQuantizer, hook) for hook in hooks):
            return evaluated  # straight-through has the nearest codeword's value
        drawn, prepared = _frames(noise), _frames(self.prepare(noise).unsqueeze(3))
        columns = codebook.unsqueeze(2)

        def trained(latents: Tensor, n: int) -> tuple[Tensor, Tensor]:
            codes = self.choose(torch.addmm(offset, latents, weights, alpha=-1), drawn[n])
            return self.replace(latents.unsqueeze(2), columns[codes], prepared[n]).squeeze(2), codes.unsqueeze(1)

        return trained

    @final
    def stacked_stepper(self, parameters: Mapping[str, Tensor], noise: Noise) -> StackedStepper:
        if self.bypass:
            return super().stacked_stepper(parameters, noise)
        codebooks = over_variants(self, self.codewords, parameters)()
        offsets, weights = torch.func.vmap(scorer, (0, None))(codebooks, self.metric)
        offsets, weights, rows = offsets.unsqueeze(1), weights.contiguous(), codebooks.flatten(0, 1)
        first = torch.arange(0, len(rows), self.size, device=rows.device)[:, None]

        def one(latents: Tensor, n: int) -> Tensor:
            codes = lowest(torch.baddbmm(offsets, latents, weights, alpha=-1).flatten(0, 1))
            return rows[codes.view(latents.shape[:2]) + first]

        return one

    @final
    @torch.no_grad()
    def fit(self, latents: Latents) -> None:
        """Start the codebook from "B C T" training latents; ValueError if they are not finite."""
        require_finite(latents)
        vectors = latents.transpose(1, 2).reshape(-1, self.channels)
        self.place(torch.randn_like(self.codebook) if self.initialisation == "normal" else self._spread(vectors))

    @torch.no_grad()
    def place(self, codewords: Tensor) -> None:
        """Put the whole codebook at "K C" codewords."""
        self.codebook.copy_(codewords)

    @torch.no_grad()
    def update(self, latents: Latents, codes: Codes, progress: float) -> None:
        """Count use and, on schedule, replace idle codewords."""
        self.batches_used += torch.zeros_like(self.batches_used).index_fill_(0, codes.reshape(-1), 1)
        self.batches += 1
        due = FIRST_REPLACEMENT * GROWTH ** int(self.replacements)
        if self.replacement > 0 and due <= progress <= LAST_REPLACEMENT:
            idle = self.batches_used < self.replacement * self.batches
            self._replace(idle)
            self.batches_used.zero_()
            self.batches.zero_()
            self.replacements += 1 + int(math.log(max(progress / due, 1.0), GROWTH))

    @torch.no_grad()
    def move(self, targets: Tensor, donors: Tensor, noise: Tensor) -> None:
        """Put codewords `targets` (indices) beside codewords `donors`."""
        self.codebook[targets] = self.codebook[donors] + noise

    @classmethod
    def for_rate(cls, channels: int, bits: float, **fixed: Any) -> dict[str, Any]:
        """One codebook of 2**bits codewords."""
        if not 1.0 <= bits <= MAX_BITS:
            nearest = min(max(bits, 1.0), MAX_BITS)
            raise ValueError(
                f"one codebook spends 1 to {MAX_BITS:g} bit per position, not {bits:g}; nearest: {nearest:g}"
            )
        return {"codebook_bits": bits}

    def _chosen(self, latents: Latents, choose: Callable[[Tensor, Tensor], Tensor], noise: Noise) -> Codes:
        batch, channels, positions = latents.shape
        vectors = latents.detach().transpose(1, 2).reshape(-1, channels)
        drawn = noise.transpose(1, 2).reshape(len(vectors), noise.shape[1])
        codes = chosen(vectors, scorer(self.codewords().detach(), self.metric), choose, drawn)
        return codes.reshape(batch, 1, positions)

    def _replace(self, idle: Tensor) -> None:
        targets, active = idle.nonzero()[:, 0], (~idle).nonzero()[:, 0]
        if len(targets) == 0 or len(active) == 0:
            return
        donors = active[torch.randint(len(active), (len(targets),), device=active.device)]
        spread = self.codewords()[active].std(0, correction=0)
        noise = 1e-3 * spread * torch.randn(len(targets), self.channels, device=spread.device, dtype=spread.dtype)
        self.move(targets, donors, noise)

    def _spread(self, vectors: Tensor) -> Tensor:
        """K codewords from training vectors: k-means, or distinct random ones; repeated with noise where too few."""
        chosen = torch.randperm(len(vectors))[: max(FIT_VECTORS, 4 * self.size)]
        vectors = vectors[chosen.to(vectors.device)]
        if len(vectors) <= self.size:
            repeated = vectors[torch.arange(self.size, device=vectors.device) % len(vectors)]
            return repeated + 1e-3 * vectors.std(0, correction=0) * torch.randn_like(repeated)
        if self.initialisation == "samples":
            return vectors[: self.size]
        if self.initialisation == "noisy_samples":
            return vectors[: self.size] + torch.randn_like(vectors[: self.size])
        return kmeans(vectors * self.metric, self.size) / self.metric


def _frames(noise: Tensor) -> tuple[Tensor, ...]:
    """Noise "B R T ..." frame by frame."""
    return noise.movedim(2, 0).contiguous().unbind(0)
