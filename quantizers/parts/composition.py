"""What quantizers made of quantizers share: streams, noise rows and coding tables of the parts, in order."""

import math
from abc import ABC
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, cast, final

import torch
from torch import Tensor, nn

from ..base import Codes, Nested, Noise, Quantizer, Tables

PART_BITS = 10.0  # where nothing says otherwise a part gets at most so many, the 1024 codewords of common codecs
MAX_PARTS = 64
TOLERATED = 0.05  # of a rate that was asked for


class Composition(Quantizer, ABC):
    """Quantizers one after another or side by side; the first `active` of them are in operation."""

    instead: ClassVar[dict[str, str]] = {name: f"{name}() of the parts" for name in ("tables", "fit_tables", "coarsen")}

    def __init__(self, channels: int, parts: Iterable[Quantizer]) -> None:
        super().__init__(channels)
        self.parts = nn.ModuleList(parts)
        self.active = len(self.parts)
        self.rate_is_learned = any(part.rate_is_learned for part in self.active_parts())  # type: ignore[misc]

    @property
    @final
    def alphabet(self) -> tuple[int | None, ...]:
        return tuple(size for part in self.active_parts() for size in part.alphabet)

    @property
    def noise_rows(self) -> int:
        return sum(self.rows())

    def rows(self) -> list[int]:
        """Noise rows that each part in operation gets."""
        return [part.noise_rows for part in self.active_parts()]

    def random(self, batch: int, positions: int, start: int) -> Noise:
        none = torch.zeros(batch, 0, positions, dtype=self.float_type, device=self.device)
        return torch.cat([none, *(part.draw(batch, positions, start) for part, rows in self.numbered() if rows)], 1)

    @final
    def tables(self, known: Codes) -> Tables:
        begin = 0
        for part in self.active_parts():
            end = begin + len(part.alphabet)
            if known.shape[1] < end:
                return part.tables(known[:, begin:])
            begin = end
        raise ValueError(f"{known.shape[1]} streams are known already; there are {begin}")

    @final
    def fit_tables(self, codes: Codes) -> None:
        for part, streams, _ in self.divided(codes, codes[:, :0]):
            part.fit_tables(streams)

    @final
    def coarsen(self, amount: float) -> None:
        for part in self.active_parts():
            part.coarsen(amount)

    @final
    def active_parts(self) -> list[Quantizer]:
        """The parts in operation."""
        return cast(list[Quantizer], list(self.parts)[: self.active])

    @final
    def numbered(self) -> Iterator[tuple[Quantizer, int]]:
        """The parts in operation and how many rows they get, told the seed of shared noise and their first row."""
        first = self.first_row
        for part, rows in zip(self.active_parts(), self.rows(), strict=True):
            part.dither_seed, part.first_row = self.dither_seed, first
            first += rows
            yield part, rows

    @final
    def with_noise(self, noise: Tensor) -> Iterator[tuple[Quantizer, Tensor]]:
        """The parts in operation, each with its rows."""
        first = 0
        for part, rows in zip(self.active_parts(), self.rows(), strict=True):
            yield part, noise[:, first : first + rows]
            first += rows

    @final
    def divided(self, codes: Tensor, noise: Tensor) -> Iterator[tuple[Quantizer, Tensor, Tensor]]:
        """The parts that there are codes for, each with its streams and rows."""
        stream = 0
        for part, part_noise in self.with_noise(noise):
            if stream >= codes.shape[1]:
                break
            end = stream + len(part.alphabet)
            yield part, codes[:, stream:end], part_noise
            stream = end

    @final
    def silence(self, latents: Tensor) -> Tensor:
        """Zeros in place of noise that is not known any more."""
        return latents.new_zeros(1).expand(len(latents), sum(self.rows()), latents.shape[2])


def options_for(
    option: str, stage: Nested, bits: float, fixed: int | None, most: int, sizes: Callable[[int], list[int]]
) -> dict[str, Any]:
    """Options with which parts of sizes(count) channels spend `bits` together: {option: count, "stage....": ...}.

    All parts have the same options. `fixed` is their number where it is given already, `most` the largest; otherwise
    there are at least two where that can be, of at most 10 bit where their rate is not learned. ValueError in one line.
    """
    counts = [fixed] if fixed is not None else _counts(stage, bits, most)
    refusal = ""
    for count in counts:
        try:
            chosen = _common_options(stage, bits, sizes(count))
        except ValueError as error:
            if not refusal or bits < PART_BITS:  # too little for one part, or too much for the most parts
                refusal = f"with {option}={count} each: {error}"
            continue
        if chosen.keys() & stage.options.keys():
            count, chosen = _count_of(option, stage, bits, counts, sizes), {}
        number = {} if fixed is not None else {option: count}
        return number | {f"stage.{name}": value for name, value in chosen.items()}
    raise ValueError(f"{bits:g} bit per position cannot be divided; {refusal}")


def _counts(stage: Nested, bits: float, most: int) -> list[int]:
    first = min(max(2, 0 if stage.cls.rate_is_learned else math.ceil(bits / PART_BITS)), most)
    last = min(max(first, math.ceil(bits)), most)
    return [*range(first, last + 1), *range(first - 1, 0, -1)]


def _common_options(stage: Nested, bits: float, sizes: list[int]) -> dict[str, Any]:
    """The stage's own for_rate where it is the same for all parts: each spends the same, or in proportion."""
    for share in (lambda size: 1 / len(sizes), lambda size: size / sum(sizes)):
        options = [stage.for_rate(size, bits * share(size)) for size in sorted(set(sizes), reverse=True)]
        if all(other == options[0] for other in options):
            return options[0]
    raise ValueError(f"{min(sizes)} and {max(sizes)} channels need different options; choose another number")


def _count_of(option: str, stage: Nested, bits: float, counts: list[int], sizes: Callable[[int], list[int]]) -> int:
    """The number of parts where their rate is fixed."""
    nominal: dict[int, float] = {}

    def total(count: int) -> float:
        for size in sizes(count):
            if size not in nominal:
                nominal[size] = stage(size).nominal_bits
        return sum(nominal[size] for size in sizes(count))

    best = min(counts, key=lambda count: abs(total(count) - bits))
    if abs(total(best) - bits) > TOLERATED * bits:
        raise ValueError(f"{best} {option} spend {total(best):g} bit, not {bits:g}; nearest: {total(best):g}")
    return best
