"""Residual (multi-stage) vector quantization: each stage quantizes what the stages before it left over.

    rest_1 = x,  rest_{i+1} = rest_i - decode_i(code_i),  x_hat = sum of decode_i(code_i)

x -> stage 1 -> rest -> stage 2 -> rest -> ... ; any number of leading stages decodes, so one model serves N rates.

Stages are any quantizers (Juang and Gray 1982 have codebooks; Zeghidour et al., arXiv:2107.03312, Algorithm 1).
Training telescopes, n being the last stage:

    x_hat' = (x - rest_n) + surrogate_n(rest_n)

Earlier stages have the hard values of their codes: encode()'s, or where a stage trains with others, as one that samples
does, those of its surrogate. The gradient of these values is one of two:
- that of decode(). With NSVQ stages this makes x_hat' = x + ||x - sum of codewords|| / ||v|| * v, noise of the norm of
  the total error, as Vali and Backstrom train residual VQ (doi:10.1109/ICASSP49357.2023.10096204). With
  straight-through VQ the two paths to a codebook cancel, and it learns from its own loss alone.
- that of the stage's surrogate (straight-through), where this reads parameters that decode() does not: a projection in
  front of a scalar quantizer, logits. The Jacobian at x is then I - (I - J_1) ... (I - J_n) of the surrogates' J_i.

Losses are the stages' own, of (rest_i, decode_i), summed; one moves its stage's parameters and x, never an earlier
stage. They and update() know no noise: the rest behind a stage whose decode() needs some is the one without.
Where a rate is learned, the bits of an earlier stage cost something and its distortion nothing, because later stages
make up for it; with dropout it counts.

Quantizer dropout (Zeghidour et al., III-C; the share as in Kumar et al., arXiv:2306.06546): with probability `dropout`
an item of a training batch keeps n leading stages, n uniform on 1..N. Losses, bits and updates go on counting all
stages of all items, also those that an item does without.
"""

from collections.abc import Iterator
from functools import reduce
from typing import Any, final

import torch
from torch import Tensor

from .base import Bits, Codes, Latents, Nested, Noise, Quantizer, Scalar, Stepper, require_finite
from .nsvq import NSVQ
from .parts.composition import MAX_PARTS, Composition, options_for

STAGE = Nested(NSVQ)
POSITIONS = 64  # of latents that tell what a stage is like


@final
class Residual(Composition):
    """Stages one after another.

    Args:
        channels: C.
        stage: what each stage is.
        stages: N.
        dropout: probability that an item of a training batch keeps a random number of stages.
    """

    paper = "Juang & Gray 1982, doi:10.1109/ICASSP.1982.1171604; Zeghidour et al. 2021, arXiv:2107.03312"

    def __init__(self, channels: int, stage: Nested = STAGE, stages: int = 4, dropout: float = 0.0) -> None:
        if stages < 1:
            raise ValueError(f"stages={stages} must be at least 1")
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"dropout={dropout} must be a probability, 0 to 1")
        super().__init__(channels, [stage(channels) for _ in range(stages)])
        self.dropout = dropout
        self.relaxed = _learns_by_surrogate(self.active_parts()[0])
        self.sampled = _trains_with_other_codes(self.active_parts()[0])
        self.hard_is_quiet = _is_quiet(self.active_parts()[0])

    @property
    def noise_rows(self) -> int:
        return super().noise_rows + self._drops

    def rows(self) -> list[int]:
        """Stages that only encode and decode need no noise of a surrogate."""
        rows = super().rows()
        if self.training and self.hard_is_quiet and not self._softens:
            rows[:-1] = [0] * (len(rows) - 1)
        return rows

    def random(self, batch: int, positions: int, start: int) -> Noise:
        """The stages' rows, then the number of stages that an item keeps."""
        noise = super().random(batch, positions, start)
        if not self._drops:
            return noise
        number = torch.randint(1, self.active + 1, (batch, 1, 1), device=noise.device)
        dropped = torch.rand(batch, 1, 1, device=noise.device) < self.dropout
        kept = torch.where(dropped, number, self.active).to(noise.dtype)
        return torch.cat([noise, kept.expand(-1, -1, positions)], 1)

    @torch.no_grad()
    def encode(self, latents: Latents, noise: Noise) -> Codes:
        rest, codes = _position_major(latents), []
        for part, part_noise in self.with_noise(noise):
            codes.append(part.encode(rest, part_noise))
            rest = rest - part.decode(codes[-1], part_noise)
        return torch.cat(codes, 1)

    def decode(self, codes: Codes, noise: Noise) -> Latents:
        """The sum over the stages that there are codes for."""
        return reduce(torch.add, (part.decode(streams, rows) for part, streams, rows in self.divided(codes, noise)))

    def surrogate(self, latents: Latents, noise: Noise) -> tuple[Latents, Codes]:
        x = rest = _position_major(latents)
        *leading, (last, last_noise) = self.with_noise(noise)
        codes, stopped = [], []  # stopped: what an item is that keeps so many stages
        for part, part_noise in leading:
            if self._softens:
                value, code = part.surrogate(rest, part_noise)
                stopped.append(x - rest + value)
                hard = part.decode(code, part_noise)
                if self.relaxed:
                    hard = value + (hard - value).detach()
            else:
                code = part.encode(rest, part_noise)
                hard = part.decode(code, part_noise)
            codes.append(code)
            rest = rest - hard
        value, code = last.surrogate(rest, last_noise)
        quantized = x - rest + value
        if self._drops:
            for number, instead in enumerate(stopped, 1):
                quantized = torch.where(noise[:, -1:] == number, instead, quantized)
        return quantized, torch.cat([*codes, code], 1)

    def stepper(self, noise: Noise) -> Stepper:
        if self.bypass or self._drops:
            return super().stepper(noise)
        stages = [
            (part, part_noise, part.stepper(_filled(part_noise, part.noise_rows)))
            for part, part_noise in self.with_noise(noise)
        ]
        *leading, (_, _, last) = stages

        def evaluated(latents: Tensor, n: int) -> tuple[Tensor, Tensor]:
            rest, codes, total = latents, [], None
            for _, _, one in stages:
                value, code = one(rest, n)
                rest, total = rest - value, value if total is None else total + value
                codes.append(code)
            return total, torch.cat(codes, 1)  # type: ignore[return-value]

        def trained(latents: Tensor, n: int) -> tuple[Tensor, Tensor]:
            rest, codes = latents, []
            for part, part_noise, one in leading:
                codes.append(one(rest, n)[1])
                rest = rest - part.decode(codes[-1].unsqueeze(2), part_noise[:, :, n : n + 1]).squeeze(2)
            value, code = last(rest, n)
            return latents - rest + value, torch.cat([*codes, code], 1)

        return trained if self.training else evaluated

    def objective(self, latents: Latents, quantized: Latents, codes: Codes) -> tuple[Scalar, Bits]:
        losses, bits = [], []
        for part, rest, after, streams in self._passed(latents, codes):
            value = rest - after.detach()  # hard; a rate that is read off it reaches x
            loss, cost = part.objective(rest, value, streams)
            losses.append(loss)
            bits.append(cost)
        return reduce(torch.add, losses), reduce(torch.add, bits)

    @torch.no_grad()
    def fit(self, latents: Latents) -> None:
        """One stage after the other, each on what those before it leave over."""
        require_finite(latents)
        rest = latents
        for part, _ in self.numbered():
            part.fit(rest)
            noise = part.draw(rest.shape[0], rest.shape[2])
            rest = rest - part.decode(part.encode(rest, noise), noise)

    @torch.no_grad()
    def update(self, latents: Latents, codes: Codes, progress: float) -> None:
        """Each stage from its own rest; what it leaves over is that of the codebook that made the codes."""
        for part, rest, _, streams in self._passed(latents, codes):
            part.update(rest, streams, progress)

    @property
    def prefixes(self) -> tuple[int, ...]:
        ends, end = [], 0
        for part in self.parts:
            end += len(part.alphabet)  # type: ignore[arg-type]
            ends.append(end)
        return tuple(ends)

    def truncate(self, streams: int) -> None:
        """Leave later stages out; the codes of those before stay as they were."""
        super().truncate(streams)
        self.active = self.prefixes.index(streams) + 1

    @classmethod
    def for_rate(
        cls, channels: int, bits: float, stage: Nested = STAGE, stages: int | None = None, **fixed: Any
    ) -> dict[str, Any]:
        """Stages of equal rate, at least two and of at most 10 bit where that can be."""
        return options_for("stages", stage, bits, stages, max(MAX_PARTS, stages or 0), lambda count: [channels] * count)

    @property
    def _drops(self) -> bool:
        return self.training and self.dropout > 0

    @property
    def _softens(self) -> bool:
        """Whether earlier stages go through their surrogates too."""
        return self._drops or self.relaxed or self.sampled

    def _passed(self, latents: Tensor, codes: Tensor) -> Iterator[tuple[Quantizer, Tensor, Tensor, Tensor]]:
        """(stage, its rest, the rest after it, its codes); no gradient into earlier stages."""
        rest = _position_major(latents)
        for part, streams, rows in self.divided(codes, self.silence(latents)):
            with torch.no_grad():
                value = part.decode(streams, rows)
            after = rest - value
            yield part, rest, after, streams
            rest = after


def _position_major(latents: Tensor) -> Tensor:
    """The same values, channels next to each other in memory as decode() of a codebook has them."""
    return latents.transpose(1, 2).contiguous().transpose(1, 2)


def _filled(noise: Tensor, rows: int) -> Tensor:
    """Noise of that many rows for a surrogate whose value nobody reads."""
    return noise if noise.shape[1] == rows else noise.new_ones(1).expand(noise.shape[0], rows, noise.shape[2])


def _is_quiet(part: Quantizer) -> bool:
    """Whether encode() and decode() need no noise."""
    quiet = part.eval().noise_rows == 0
    part.train()
    return quiet


def _trains_with_other_codes(part: Quantizer) -> bool:
    """Whether the codes of its surrogate are not encode()'s, for latents of any scale."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        scales = torch.logspace(-3, 3, POSITIONS, dtype=part.float_type)
        latents = torch.randn(1, part.channels, POSITIONS, dtype=part.float_type) * scales
        noise = part.draw(1, POSITIONS)
        return not torch.equal(part.surrogate(latents, noise)[1], part.encode(latents, noise))


@torch.enable_grad()
def _learns_by_surrogate(part: Quantizer) -> bool:
    """Whether it has parameters that its surrogate reads and its decode() does not."""
    parameters = [p for p in part.parameters() if p.requires_grad]
    noise = torch.zeros(1, part.noise_rows, 1, dtype=part.float_type)
    value, codes = part.surrogate(torch.zeros(1, part.channels, 1, dtype=part.float_type), noise)

    def read(output: Tensor) -> list[bool]:
        if not output.requires_grad:
            return [False] * len(parameters)
        return [grad is not None for grad in torch.autograd.grad(output.sum(), parameters, allow_unused=True)]

    return any(soft and not hard for soft, hard in zip(read(value), read(part.decode(codes, noise)), strict=True))
