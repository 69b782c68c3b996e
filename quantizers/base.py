"""The contract of a quantizer: C real numbers per position to S integers and back, each position alone.

x "B C T" -> encode -> codes "B S T" -> (entropy coder, file) -> decode -> x_hat "B C T"

Letters: B batch, C latent channels, T positions, S code streams, R noise rows.
Invariants: every position is quantized alone; all randomness comes from draw(); a forward changes no state;
state outside gradient descent changes only in fit() and update(); codebooks are Parameters.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, final

import torch
from jaxtyping import Float, Int
from lightning import LightningModule
from torch import Tensor

from .parts.finals import refuse_overrides
from .stacking import over_variants

Latents = Float[Tensor, "B C T"]
Codes = Int[Tensor, "B S T"]
Noise = Float[Tensor, "B R T"]
Bits = Float[Tensor, "B T"]
Scalar = Float[Tensor, ""]

TABLE_BITS = 20  # integer probabilities of every table row add up to 2**20
TABLE_TOTAL = 1 << TABLE_BITS
ESCAPE_BITS = 32  # an escaped symbol follows as a raw signed integer of so many bits


class Quantized(NamedTuple):
    """What a quantizer made of one sequence of latents."""

    latents: Latents  # decoded (eval) or their training surrogate
    codes: Codes
    loss: Scalar  # auxiliary loss, mean over positions, already weighted
    bits: Bits  # per position: differentiable where the method has a density, else nominal
    source: Latents  # what came in, detached: fit() and update() learn from it


class Tables(NamedTuple):
    """Integer entropy model of one group of streams: symbol s of a position has counts[index, s - shift] / 2**20."""

    counts: Int[Tensor, "M K"]  # rows add up to 2**20, no entry is zero
    index: Int[Tensor, "B S T"]  # type: ignore[assignment]  # which row
    shift: Int[Tensor, "B S T"]  # the symbol that column 0 stands for
    escape: bool  # the last column means: the symbol follows as a raw integer


def integer_counts(histogram: Tensor) -> Tensor:
    """Scale non-negative counts (..., K) to integers that add up to 2**20 exactly with none zero (float64, CPU)."""
    weights = histogram.detach().to("cpu", torch.float64)
    size = weights.shape[-1]
    if size > TABLE_TOTAL // 2:
        raise ValueError(f"a table of {size} symbols is too long; at most {TABLE_TOTAL // 2}")
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-300)
    counts = 1 + (weights * (TABLE_TOTAL - size)).floor().to(torch.int64)
    largest = counts.argmax(-1, keepdim=True)  # takes what flooring left over
    return counts.scatter_add(-1, largest, TABLE_TOTAL - counts.sum(-1, keepdim=True))


class Quantizer(LightningModule, ABC):
    """A bottleneck plug-in. A method writes alphabet, encode, decode, surrogate and what else of the hooks it needs."""

    paper: ClassVar[str] = ""
    instead: ClassVar[dict[str, str]] = {  # method -> what a plug-in writes to change it
        "draw": "random() or noise_rows",
        "stepper": "surrogate()",
        "stacked_stepper": "encode() or decode()",
        "step": "encode(), decode() or surrogate()",
        "collect": "objective()",
        "forward": "encode(), decode(), surrogate() or objective()",
    }
    rate_is_learned: ClassVar[bool] = False  # without a target the rate is the codec's default, steered in training
    table_counts: Tensor
    table_sizes: Tensor
    table_origins: Tensor

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        refuse_overrides(cls)

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels={channels} must be at least 1")
        self.channels = channels
        self.bypass = False  # the trainer's unquantized warm-up
        self.dither_seed = 0  # of noise that encoder and decoder share; a file's header carries it
        self.first_row = 0  # of this quantizer's noise among all under one seed; a composition counts its parts' up
        for name in ("table_counts", "table_sizes", "table_origins"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64))

    # -- what a method writes ---------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def alphabet(self) -> tuple[int | None, ...]:
        """Symbols per stream; None = any integer, escape-coded where the table ends."""

    @abstractmethod
    def encode(self, latents: Latents, noise: Noise) -> Codes:
        """Hard codes. No gradient, no .item(), no boolean mask (it runs under vmap)."""

    @abstractmethod
    def decode(self, codes: Codes, noise: Noise) -> Latents:
        """Latents of the codes; differentiable in the codebook."""

    @abstractmethod
    def surrogate(self, latents: Latents, noise: Noise) -> tuple[Latents, Codes]:
        """What training puts in place of decode(encode(latents)); pure; the gradient reaches the input."""

    @property
    def noise_rows(self) -> int:
        """R, the rows of noise a position needs in the present mode."""
        return 0

    def random(self, batch: int, positions: int, start: int) -> Noise:
        """The noise itself; uniform on (-1/2, 1/2) unless a method says otherwise."""
        return torch.rand(batch, self.noise_rows, positions, dtype=self.float_type, device=self.device) - 0.5

    def objective(self, latents: Latents, quantized: Latents, codes: Codes) -> tuple[Scalar, Bits]:
        """Auxiliary loss (already weighted) and bits per position, once per whole sequence. Default: none, nominal."""
        nominal = latents.new_full((latents.shape[0], latents.shape[2]), self.nominal_bits)
        return latents.new_zeros(()), nominal

    def fit(self, latents: Latents) -> None:
        """Where a codebook starts, or is: called once with training latents."""

    def update(self, latents: Latents, codes: Codes, progress: float) -> None:
        """State outside gradient descent, after each optimiser step; progress runs from 0 to 1."""

    def tables(self, known: Codes) -> Tables:
        """Entropy model of the next group of streams, given those already known. Default: one static row a stream."""
        stream = known.shape[1]
        row, shift, escape = self._static_row(stream)
        index = torch.zeros(known.shape[0], 1, known.shape[2], dtype=torch.int64)
        return Tables(row[None], index, torch.full_like(index, shift), escape)

    def fit_tables(self, codes: Codes) -> None:
        """Fit the coding tables on training codes. Default: one histogram a stream given, one added to every count."""
        rows, origins = [], []
        for stream, size in enumerate(self.alphabet[: codes.shape[1]]):
            symbols = codes[:, stream].reshape(-1).cpu()
            origin = int(symbols.min()) if size is None and len(symbols) else 0
            length = int(symbols.max()) - origin + 2 if size is None and len(symbols) else (size or 1)
            rows.append(integer_counts(torch.bincount(symbols - origin, minlength=length) + 1))
            origins.append(origin)
        self.table_counts = torch.cat(rows).to(torch.int64)
        self.table_sizes = torch.tensor([len(row) for row in rows])
        self.table_origins = torch.tensor(origins)

    def coarsen(self, amount: float) -> None:
        """Widen by exp(amount) what latents are rounded with, where the rate is learned: a trained rate is trimmed so.

        Coding tables are to be fitted anew. Default: nothing, for the rate is fixed.
        """

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Numbers of leading streams that decode on their own, ascending; the last is all of them."""
        return (len(self.alphabet),)

    def truncate(self, streams: int) -> None:
        """Operate on the first `streams` streams alone (one of `prefixes`): alphabet, codes and tables end there."""
        if streams not in self.prefixes:
            raise ValueError(f"{streams} streams do not decode on their own; possible: {str([*self.prefixes])[1:-1]}")

    @classmethod
    def for_rate(cls, channels: int, bits: float, **fixed: Any) -> dict[str, Any]:
        """Constructor options that spend `bits` per position, given those fixed. ValueError names the nearest rate."""
        raise ValueError(f"{cls.__name__} has no rate to choose; leave --bitrate out")

    # -- final ------------------------------------------------------------------------------------------------------

    @property
    @final
    def float_type(self) -> torch.dtype:
        """The dtype of the parameters; without any, that of the codec around it."""
        return next((p.dtype for p in self.parameters()), self.dtype)  # type: ignore[return-value]

    @property
    @final
    def nominal_bits(self) -> float:
        """Bits per position with fixed-length codes; infinite for an open alphabet."""
        sizes = [float("inf") if size is None else float(size) for size in self.alphabet]
        return float(torch.tensor(sizes, dtype=torch.float64).log2().sum())

    @final
    def draw(self, batch: int, positions: int, start: int = 0) -> Noise:
        """All randomness of `positions` positions from position `start` on, drawn before any loop."""
        if self.noise_rows == 0 or self.bypass:
            return torch.zeros(batch, 0, positions, dtype=self.float_type, device=self.device)
        return self.random(batch, positions, start)

    @final
    def step(self, latents: Latents, noise: Noise) -> tuple[Latents, Codes]:
        """One frame or all positions at once: the surrogate in training, decode(encode) in evaluation."""
        if self.bypass:
            shape = (latents.shape[0], len(self.alphabet), latents.shape[2])
            return latents, torch.zeros(shape, dtype=torch.int64, device=latents.device)
        if torch.is_autocast_enabled(latents.device.type):  # bfloat16 would change 5-8 % of the codes
            with torch.autocast(latents.device.type, enabled=False):
                return self.step(latents.to(self.float_type), noise)
        if self.training:
            return self.surrogate(latents, noise)
        codes = self.encode(latents, noise).contiguous()  # as those of a file: kernels round by the memory's layout
        return self.decode(codes, noise), codes

    def stepper(self, noise: Noise) -> "Stepper":
        """step() for one frame after another: (latents "B C", frame n) -> (latents "B C", codes "B S").

        A loop without a graph may use it. Override it to hoist what no frame changes; it must equal step().
        """

        def one(latents: Tensor, n: int) -> tuple[Tensor, Tensor]:
            quantized, codes = self.step(latents.unsqueeze(2), noise[:, :, n : n + 1])
            return quantized.squeeze(2), codes.squeeze(2)

        return one

    def stacked_stepper(self, parameters: Mapping[str, Tensor], noise: Noise) -> "StackedStepper":
        """stepper() in evaluation for P variants at once: (latents "P B C", frame n) -> latents "P B C".

        `parameters` holds every named parameter of this quantizer as "P ..."; all variants share the noise.
        Override it to hoist what no frame changes; without a gradient.
        """
        if self.bypass:
            return lambda latents, n: latents

        def hard(latents: Tensor, drawn: Tensor) -> Tensor:
            return self.decode(self.encode(latents, drawn), drawn)

        mapped = over_variants(self, hard, parameters, (0, None))
        return lambda latents, n: mapped(latents.unsqueeze(3), noise[:, :, n : n + 1]).squeeze(3)

    @final
    def collect(self, latents: Latents, quantized: Latents, codes: Codes) -> Quantized:
        """Close a sequence whose positions went through step()."""
        if self.bypass:
            nothing = latents.new_zeros(latents.shape[0], latents.shape[2])
            return Quantized(quantized, codes, latents.new_zeros(()), nothing, latents.detach())
        with torch.autocast(latents.device.type, enabled=False):
            loss, bits = self.objective(latents.to(self.float_type), quantized, codes)
        return Quantized(quantized, codes, loss, bits, latents.detach())

    @final
    def forward(self, latents: Latents) -> Quantized:
        """Quantize all positions at once."""
        quantized, codes = self.step(latents, self.draw(latents.shape[0], latents.shape[2]))
        return self.collect(latents, quantized, codes)

    def _static_row(self, stream: int) -> tuple[Tensor, int, bool]:
        size = self.alphabet[stream]
        if len(self.table_sizes) == 0:  # not fitted: uniform, or all escaped
            return integer_counts(torch.ones(size or 1)), 0, size is None
        if size is not None and int(self.table_sizes[stream]) != size:
            raise ValueError(f"tables of {int(self.table_sizes[stream])} symbols for {size}: fit_tables() anew")
        ends = self.table_sizes.cumsum(0)
        row = self.table_counts[int(ends[stream] - self.table_sizes[stream]) : int(ends[stream])]
        return row.cpu(), int(self.table_origins[stream]), size is None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name in ("table_counts", "table_sizes", "table_origins"):  # tables grow when they are fitted
            if prefix + name in state_dict:
                setattr(self, name, torch.zeros_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


@dataclass(frozen=True)
class Nested:
    """A quantizer inside a quantizer: its class and options. As a constructor's argument it is an option of its own:
    `--quantizer.stage nsvq --quantizer.stage.codebook_bits 4`; for_rate() names its options "stage.codebook_bits".
    """

    cls: type[Quantizer]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, channels: int, **more: Any) -> Quantizer:
        """One of them; `more` has the last word."""
        return self.cls(channels, **{**self.options, **more})

    def for_rate(self, channels: int, bits: float) -> dict[str, Any]:
        """The class's own for_rate, given the options that are fixed."""
        return self.cls.for_rate(channels, bits, **self.options)


def require_finite(latents: Latents) -> None:
    """ValueError where latents that something is to be learned from are not finite."""
    if not torch.isfinite(latents).all():
        raise ValueError("the latents hold NaN or infinity: training diverged; lower the learning rate")


Stepper = Callable[[Tensor, int], tuple[Tensor, Tensor]]
StackedStepper = Callable[[Tensor, int], Tensor]
Maker = Callable[[int, float], Quantizer]  # (channels, share of the codec's rate) -> a quantizer
