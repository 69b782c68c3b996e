"""Checks of what a quantizer learns outside gradient descent: its start from data, its updates, its rate."""

import torch

from ..base import Quantizer
from .running import (
    FITTED_ON,
    POSITIONS,
    Make,
    built,
    check_fields,
    demand,
    drawn,
    entropy,
    fresh,
    hook,
    ready,
    sample,
    seeded,
    state_of,
)

ASKED_RATES = ((32, 30.0), (32, 60.0), (256, 282.0))  # channels, bits per position


def for_rate_is_met(make: Make) -> None:
    """for_rate(channels, bits) gives options that spend `bits` within 5 %, or refuses in one line."""
    quantizer = fresh(make)
    cases = [(quantizer.channels, bits) for bits in (4.0, 6.5, 10.0)]
    others = [(channels, bits) for channels, bits in ASKED_RATES if _takes(type(quantizer), channels)]
    for channels, bits in (*cases, *others):
        try:
            options = quantizer.for_rate(channels, bits)
        except ValueError as refusal:
            lines = str(refusal).splitlines()
            demand(len(lines) == 1, f"for_rate() must refuse in one line that names the nearest rate, got {lines}")
            continue
        nominal = seeded(built, type(quantizer), channels, options).nominal_bits
        demand(
            nominal >= bits if quantizer.rate_is_learned else abs(nominal - bits) <= 0.05 * bits,
            f"for_rate({channels}, bits={bits:g}) gave {options}, which spend {nominal:.3g} bit; refuse with the "
            "nearest rate",
        )


def coarsening_lowers_the_rate(make: Make) -> None:
    """coarsen() makes a learned rate fall, undone it is as before; a fixed rate stays."""
    quantizer = ready(make)
    latents = sample(quantizer, *FITTED_ON)
    rates = []
    for amount in (0.0, 0.5, -0.5):
        quantizer.coarsen(amount)
        codes = quantizer.encode(latents, drawn(quantizer, latents))
        rates.append(sum(entropy(stream) for stream in codes.unbind(1)))
    before, coarse, after = rates
    wanted = "less" if quantizer.rate_is_learned else "as much"
    demand(
        (coarse < 0.95 * before if quantizer.rate_is_learned else coarse == before) and abs(after - before) < 0.05,
        f"codes must carry {wanted} after coarsen(0.5), and as much again after coarsen(-0.5), but they carry "
        f"{before:.3f}, {coarse:.3f}, {after:.3f} bit; widen the steps by exp(amount) in {hook(quantizer, 'coarsen')}",
    )


def codes_follow_the_data(make: Make) -> None:
    """After fit() the codes of data of any scale carry information, and decoded latents resemble the data."""
    for scale in (0.01, 1.0, 100.0):
        quantizer = seeded(make).train()
        latents = scale * sample(quantizer, *FITTED_ON)
        seeded(quantizer.fit, latents)
        with torch.no_grad():
            out = quantizer.eval()(latents)
        information = sum(entropy(stream) for stream in out.codes.unbind(1))
        wanted = min(0.25 * quantizer.nominal_bits, 0.5 * quantizer.channels)
        error = float((out.latents - latents).square().mean() / latents.square().mean())
        demand(
            information >= wanted and error < 0.95,
            f"started on data of standard deviation {scale:g} the codes carry {information:.2f} bit of at least "
            f"{wanted:.2f}, error {error:.2f} of its power; start codebooks, scales and projections from the data in "
            f"{hook(quantizer, 'fit')}",
        )


def diverged_latents_do_no_harm(make: Make) -> None:
    """fit() on NaN or infinity raises ValueError or leaves the state finite; on constant latents it works."""
    for value in (float("nan"), float("inf"), 0.0, 3.0):
        quantizer = seeded(make).train()
        latents = torch.full((4, quantizer.channels, 8), value)
        try:
            seeded(quantizer.fit, latents)
        except ValueError as refusal:
            must = f"{hook(quantizer, 'fit')} refuses constant latents ({refusal}); they must do"
            demand(not latents.isfinite().all(), must)
            continue
        for name, state in state_of(quantizer).items():
            demand(
                bool(state.isfinite().all()),
                f"{name} is not finite after a start on latents that are all {value:g}; call require_finite() or "
                f"guard divisions in {hook(quantizer, 'fit')}",
            )
        if latents.isfinite().all():
            check_fields(quantizer.eval(), quantizer(latents[:3, :, :POSITIONS]), POSITIONS)


def fit_and_update_run(make: Make) -> None:
    """fit() and update() over a whole training leave a finite state of the same shapes."""
    quantizer = ready(make, training=True)
    shapes = {name: (value.shape, value.dtype) for name, value in state_of(quantizer).items()}
    for step, progress in enumerate((0.0, 0.01, 0.3, 0.79, 1.0)):
        out = quantizer(sample(quantizer, 4, 16, seed=step))
        quantizer.update(out.source, out.codes, progress)
    update = hook(quantizer, "update")
    for name, value in state_of(quantizer).items():
        demand(bool(value.isfinite().all()), f"{name} is not finite after {update}; guard divisions by counts")
        demand(
            shapes[name] == (value.shape, value.dtype),
            f"{name} has another shape or dtype after {update}; change it in place",
        )
    check_fields(quantizer, quantizer(sample(quantizer)), POSITIONS)


def _takes(cls: type[Quantizer], channels: int) -> bool:
    """Whether the method is made for so many channels; a lattice has its own number."""
    try:
        seeded(cls, channels)
    except ValueError:
        return False
    return True
