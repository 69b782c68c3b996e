"""Checks of what loops use in place of a forward: frame by frame, and many variants of the parameters at once."""

from functools import partial

import torch
from torch import Tensor, nn

from ..base import Latents, Noise, Quantized, Quantizer
from .running import POSITIONS, Make, close, coded_by, demand, drawn, hook, mode, ready, same, sample, seeded


def stepper_equals_step(make: Make) -> None:
    """stepper(), frame by frame, gives what step() gives."""
    for training in (False, True):
        quantizer = ready(make, training)
        latents = sample(quantizer)
        noise = drawn(quantizer, latents)
        whole = [value.detach() for value in quantizer.step(latents, noise)]  # with a graph, as gradients are taken
        with torch.no_grad():
            one = quantizer.stepper(noise)
            frames = [one(latents[..., t], t) for t in range(POSITIONS)]
        demand(
            all(close(a, torch.stack(b, 2)) for a, b in zip(whole, zip(*frames, strict=True), strict=True)),
            f"in {mode(quantizer)} {hook(quantizer, 'stepper')} gives other values frame by frame than for all "
            "positions at once; hoist only what no frame changes, and compute the same with a graph and without",
        )


def stacked_parameters(make: Make) -> None:
    """torch.func.vmap over stacked parameters equals a loop over them (SPSA needs it)."""
    for training in (False, True):
        quantizer = ready(make, training)
        latents = sample(quantizer)
        call = partial(torch.func.functional_call, _Whole(quantizer, latents, drawn(quantizer, latents)))
        stacked = {f"quantizer.{name}": _variants(value) for name, value in quantizer.named_parameters()}
        stacked["latents"] = torch.stack([latents] * 3)  # vmap wants something to map over
        loop = [call({name: values[i] for name, values in stacked.items()}) for i in range(3)]
        mapped = torch.func.vmap(call)(stacked)
        for name, together, parts in zip(Quantized._fields, mapped, zip(*loop, strict=True), strict=True):
            demand(
                close(together, torch.stack(parts)),
                f"{name} under vmap over parameters differ from a loop in {mode(quantizer)}; compute from the "
                f"Parameters at each call of {coded_by(quantizer)} or {hook(quantizer, 'objective')}",
            )


def stacked_stepper_equals_step(make: Make) -> None:
    """stacked_stepper(), frame by frame, gives what step() gives each variant alone in evaluation."""
    quantizer = ready(make)
    latents = torch.stack([sample(quantizer, seed=seed) for seed in range(3)])
    noise = drawn(quantizer, latents[0])
    stacked = {name: _variants(value) for name, value in quantizer.named_parameters()}
    with torch.no_grad():
        one = quantizer.stacked_stepper(stacked, noise)
        together = torch.stack([one(latents[..., t], t) for t in range(POSITIONS)], 3)
        for n, variant in enumerate(latents):
            module = _Whole(quantizer, variant, noise)
            values = {f"quantizer.{name}": values[n] for name, values in stacked.items()}
            demand(
                close(together[n], torch.func.functional_call(module, values).latents),
                f"{hook(quantizer, 'stacked_stepper')} gives other values for variants at once than for each alone; "
                "hoist only what no frame changes",
            )


def bypass_passes_through(make: Make) -> None:
    """With bypass on, latents pass the frame loops unchanged, and nothing is drawn."""
    for training in (False, True):
        quantizer = ready(make, training)
        quantizer.bypass = True
        latents = sample(quantizer)
        noise = drawn(quantizer, latents)
        one = quantizer.stepper(noise)
        stacked = quantizer.stacked_stepper({name: p[None].detach() for name, p in quantizer.named_parameters()}, noise)
        for name, passed in (
            ("stepper", torch.stack([one(latents[..., t], t)[0] for t in range(POSITIONS)], 2)),
            ("stacked_stepper", torch.stack([stacked(latents[None, ..., t], t)[0] for t in range(POSITIONS)], 2)),
        ):
            demand(
                same(passed, latents),
                f"with bypass on, the latents must pass {hook(quantizer, name)} unchanged; where self.bypass, return "
                f"super().{name}()",
            )


class _Whole(nn.Module):
    """step() and collect() as a module of no arguments: latents are a buffer, and the noise is drawn outside vmap."""

    latents: Tensor

    def __init__(self, quantizer: Quantizer, latents: Latents, noise: Noise) -> None:
        super().__init__()
        self.quantizer, self.noise = quantizer, noise
        self.register_buffer("latents", latents)

    def forward(self) -> Quantized:
        return self.quantizer.collect(self.latents, *self.quantizer.step(self.latents, self.noise))


def _variants(parameter: Tensor) -> Tensor:
    stacked = torch.stack([parameter.detach()] * 3)
    return stacked + 0.1 * stacked.abs().clamp_min(0.01) * seeded(torch.randn_like, stacked)
