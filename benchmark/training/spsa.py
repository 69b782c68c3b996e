"""SPSA: the gradient of what cannot be differentiated, from perturbations of all parameters at once.

    w_{k+1} = w_k + a_k * mean over pairs of (y+ - y-) / c_k * D,    y+- = f(w_k +- c_k D),    D in {-1, 1}^N
    a_k = a / (A + k + 1)^gamma,    c_k = c / (k + 1)^beta

Source: Hinrichs et al., VQ FRAE, eq. 2, whose f is the VSTOI of a codec with its hard quantizer; Spall, 1998. As in
eq. 2 the difference is divided by c_k, not by 2 c_k. More than one pair a step is not in the paper: all pairs are
evaluated at once, so that a step of many costs little more than one of few, with a gradient of less noise.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...codecs.base import Codec
from ..errors import UserError
from ..specs.stages import SPSA

NUMBERS_AT_ONCE = 1 << 26  # of parameters and of decoded patterns; pairs beyond are evaluated in turn
PROBE = 32  # strides of noise that tell which parameters decide on what is decoded

Variants = Mapping[str, Tensor]  # name -> "P ..."
Evaluate = Callable[[dict[str, Tensor]], Float[Tensor, " P"]]


class Iteration(NamedTuple):
    """What one iteration did."""

    value: float  # mean of the objective over all perturbations
    spread: float  # root mean square of y+ - y-
    length: float  # norm of the step


class Climber:
    """Climbs f over live `parameters`, which it changes in place.

    An iteration is a function of the parameters, the seed and k alone: one that is taken up again with its
    `state_dict` goes on as if it had not stopped.
    """

    def __init__(self, parameters: Mapping[str, Tensor], options: SPSA, seed: int = 0) -> None:
        if not parameters:
            raise ValueError("spsa has no parameters to change: what the codec decodes depends on none")
        self.parameters, self.options, self.seed, self.k = dict(parameters), options, seed, 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs beside the parameters."""
        return {"k": self.k, "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.k, self.seed = int(state["k"]), int(state["seed"])

    @torch.no_grad()
    def step(self, evaluate: Evaluate, values_of_a_variant: int = 0) -> Iteration:
        """One iteration; `evaluate` maps P variants of all parameters to the objective of each, NaN where it has none.

        Where it has none for any pair, nothing moves and the value is NaN. `values_of_a_variant`: numbers that it holds
        for each at once. UserError where the parameters leave what numbers can hold.
        """
        gain, size = self.options.gains(self.k)
        numbers = sum(value.numel() for value in self.parameters.values())
        at_once = max(1, NUMBERS_AT_ONCE // (2 * (numbers + values_of_a_variant)))
        total = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        values, differences = [], []
        for signs in self._signs(numbers, at_once):
            plus, minus = evaluate(self._variants(signs, size)).chunk(2)
            scored = (plus - minus).isfinite()
            differences.append((plus - minus)[scored])
            values += [plus[scored], minus[scored]]
            for name, part in self._divided(signs[scored]):
                total[name] += torch.tensordot(differences[-1].to(part.dtype), part, 1)
        difference = torch.cat(differences)
        length = self._climb(total, gain / size / len(difference)) if len(difference) else 0.0
        self.k += 1
        spread = float(difference.double().square().mean().sqrt())
        return Iteration(float(torch.cat(values).double().mean()), spread, length)

    def _climb(self, total: dict[str, Tensor], scale: float) -> float:
        norms = [torch.linalg.vector_norm(part, dtype=torch.float64) for part in total.values()]
        length = scale * float(torch.stack(norms).square().sum().sqrt())
        longest = self.options.longest_step
        if longest is not None and length > longest:
            scale, length = scale * longest / length, longest
        for name, value in self.parameters.items():
            value.add_(total[name], alpha=scale)
        if not all(bool(value.isfinite().all()) for value in self.parameters.values()):
            raise UserError(f"spsa diverged at step {self.k}: lower a, or raise stability or c")
        return length

    def _signs(self, numbers: int, at_once: int) -> tuple[Tensor, ...]:
        """All pairs' perturbations "pairs N" of -1 and 1, so many pairs at once."""
        entropy = np.random.SeedSequence([self.seed, self.k]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(entropy[0]) >> 1)
        signs = torch.randint(0, 2, (self.options.pairs, numbers), generator=generator, dtype=torch.int8)
        return signs.mul_(2).sub_(1).split(at_once)

    def _variants(self, signs: Tensor, size: float) -> dict[str, Tensor]:
        both = torch.cat([signs, -signs])
        return {name: self.parameters[name] + size * part for name, part in self._divided(both)}

    def _divided(self, signs: Tensor) -> list[tuple[str, Tensor]]:
        """The perturbation of each parameter, in its shape, dtype and place."""
        sizes = [value.numel() for value in self.parameters.values()]
        parts = zip(self.parameters.items(), signs.split(sizes, 1), strict=True)
        return [(name, part.to(value).view(len(part), *value.shape)) for (name, value), part in parts]


def climb(ascender: Climber, codec: Codec, signal: Tensor, objective: Callable[[Tensor], Tensor]) -> Iteration:
    """One iteration on "B ..." signals: the objective maps decoded "P B ..." to "P". The codec is in eval mode."""
    return ascender.step(lambda variants: objective(codec.stacked(variants, signal)), signal.numel())


@torch.no_grad()
def deciding_parameters(codec: Codec, signal: Tensor) -> dict[str, Tensor]:
    """Those that decoded signals like this one depend on: the others, of a density say, would walk at random.

    They are found by changing one after the other, as the codec stands and with all of them changed, for a branch may
    start closed. The codec has to be in eval mode, its quantizers bypassed if they are to be.
    """
    within = {id(value) for quantizer in codec.quantizers for value in quantizer.parameters()}
    named = dict(codec.named_parameters())
    inner = [name for name, value in named.items() if id(value) in within]
    deciding = _changing(codec, signal, inner)
    bypassed = [quantizer.bypass for quantizer in codec.quantizers]
    for quantizer in codec.quantizers:  # a code hides small changes of latents
        quantizer.bypass = True
    deciding |= _changing(codec, signal, [name for name in named if name not in inner])
    for quantizer, bypass in zip(codec.quantizers, bypassed, strict=True):
        quantizer.bypass = bypass
    return {name: value for name, value in named.items() if name in deciding}


def _changing(codec: Codec, signal: Tensor, names: list[str]) -> set[str]:
    """Those of the parameters that change what is decoded."""
    named: dict[str, Tensor] = dict(codec.named_parameters())
    generator = torch.Generator().manual_seed(0)
    shape = (1, *signal.shape[1:-1], PROBE * codec.stride)
    probe = 2 * torch.rand(shape, generator=generator).to(signal) - 1  # silence would hide the first layer

    def changed(value: Tensor) -> Tensor:
        noise = torch.randn(value.shape, generator=generator).to(value)
        return value + noise * (0.1 + value.square().mean().sqrt())

    def decoded(values: dict[str, Tensor]) -> Tensor:
        return codec.stacked({name: value[None] for name, value in values.items()}, probe)

    changing = set()
    for base in (named, {name: changed(value) for name, value in named.items()}):
        before = decoded(base)
        changing |= {name for name in names if not decoded(base | {name: changed(base[name])}).equal(before)}
    return changing
