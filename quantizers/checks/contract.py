"""The contract of a quantizer as named checks: `run_checks(lambda: MyQuantizer(channels=5))`.

Each check builds its quantizers with the function it is handed and never looks at the class. A method for which one
cannot hold is passed with `expected_failures={"name": "reason"}`. codecs/checks.py does the same for codecs.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ..base import Latents, Noise, Quantized, Quantizer
from .coding import (
    decode_inverts_encode,
    forward_equals_decode_of_encode,
    start_continues_the_sequence,
    state_round_trips,
    tables_are_valid,
)
from .learning import (
    coarsening_lowers_the_rate,
    codes_follow_the_data,
    diverged_latents_do_no_harm,
    fit_and_update_run,
    for_rate_is_met,
)
from .running import (
    POSITIONS,
    Make,
    Result,
    check_fields,
    check_gradients,
    check_state_is_kept,
    close,
    demand,
    drawn,
    fresh,
    mode,
    objective_of,
    ready,
    run_named,
    same,
    sample,
    seeded,
)

Check = Callable[[Make], None]


def run_checks(make: Make, expected_failures: Mapping[str, str] | None = None) -> list[Result]:
    """Every check of CHECKS on quantizers built by `make`; `expected_failures` maps a check's name to the reason."""
    return run_named({name: partial(check, make) for name, check in CHECKS.items()}, expected_failures)


def shapes_and_alphabet(make: Make) -> None:
    """Every field of Quantized has its shape and dtype; every code lies in its stream's alphabet."""
    for build, training, positions in ((fresh, False, 1), (ready, False, POSITIONS), (ready, True, POSITIONS)):
        quantizer = build(make, training)
        out = quantizer(sample(quantizer, positions=positions))
        check_fields(quantizer, out, positions)
        for stream, size in enumerate(quantizer.alphabet):
            low, high = int(out.codes[:, stream].min()), int(out.codes[:, stream].max())
            demand(
                size is None or 0 <= low <= high < size,
                f"codes of stream {stream} must lie in 0..{size} - 1, got {low}..{high}; correct encode() or alphabet",
            )


def one_position_at_a_time(make: Make) -> None:
    """T positions at once are T calls of one, in both modes (a feedback loop calls step() once a frame)."""
    for training in (False, True):
        quantizer = ready(make, training)
        latents = sample(quantizer)
        noise = drawn(quantizer, latents)
        whole = quantizer.step(latents, noise)
        singly = [quantizer.step(latents[..., t : t + 1], noise[..., t : t + 1]) for t in range(POSITIONS)]
        for name, together, parts in zip(("latents", "codes"), whole, zip(*singly, strict=True), strict=True):
            demand(
                close(together, torch.cat(parts, 2)),
                f"in {mode(quantizer)} the {name} of {POSITIONS} positions at once differ from one call per position; "
                "quantize each position alone and take all randomness from `noise`",
            )


def stepper_equals_step(make: Make) -> None:
    """stepper(), frame by frame, gives what step() gives."""
    for training in (False, True):
        quantizer = ready(make, training)
        latents = sample(quantizer)
        noise = drawn(quantizer, latents)
        with torch.no_grad():
            whole = quantizer.step(latents, noise)
            one = quantizer.stepper(noise)
            frames = [one(latents[..., t], t) for t in range(POSITIONS)]
        demand(
            all(close(a, torch.stack(b, 2)) for a, b in zip(whole, zip(*frames, strict=True), strict=True)),
            f"in {mode(quantizer)} stepper() differs from step(); leave it out or hoist only what no frame changes",
        )


def batch_size_does_not_matter(make: Make) -> None:
    """In evaluation an item gets the codes it gets alone."""
    quantizer = ready(make)
    latents = sample(quantizer)
    whole = quantizer(latents)
    for item in range(len(latents)):
        alone = quantizer(latents[item : item + 1])
        demand(
            same(alone.codes, whole.codes[item : item + 1]) and close(alone.latents, whole.latents[item : item + 1]),
            f"item {item} alone is quantized otherwise than in a batch; no statistic of the batch, no noise per item",
        )


def the_gradient_reaches_the_input(make: Make) -> None:
    """In training every channel's gradient arrives at the input, finite."""
    quantizer = ready(make, training=True)
    latents = sample(quantizer, 8, 16).requires_grad_()
    out = quantizer(latents).latents
    demand(out.requires_grad, "the surrogate has no gradient at all; build it from `latents`, not from codes alone")
    (gradient,) = torch.autograd.grad(out, latents, _weights(out), allow_unused=True)
    demand(
        gradient is not None and bool(gradient.isfinite().all() and gradient.ne(0).any(2).any(0).all()),
        "the gradient at the input is missing, not finite, or zero for a whole channel; e.g. straight-through: "
        "latents + (decoded - latents).detach()",
    )


def every_trained_parameter_gets_a_gradient(make: Make) -> None:
    """Every parameter that asks for a gradient gets one from latents, loss or bits."""
    quantizer = ready(make, training=True)
    out = quantizer(sample(quantizer, 8, 16).requires_grad_())
    check_gradients(quantizer, objective_of(out.latents, (out,)))


def forward_does_not_change_state(make: Make) -> None:
    """Neither the checkpoint's state nor hidden state in Python changes in a forward."""
    for training in (False, True):
        quantizer = ready(make, training)
        check_state_is_kept(quantizer, sample(quantizer), sample(quantizer, seed=2))


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
                "Parameters at each call",
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
        for n, own in enumerate(latents):
            module = _Whole(quantizer, own, noise)
            values = {f"quantizer.{name}": values[n] for name, values in stacked.items()}
            demand(
                close(together[n], torch.func.functional_call(module, values).latents),
                "stacked_stepper() differs from each variant's step(); leave it out or hoist what no frame changes",
            )


def jacobians_are_per_position(make: Make) -> None:
    """The gradient of one position's output is zero at all other positions and what the position alone gives."""
    quantizer = ready(make, training=True)
    latents = sample(quantizer).requires_grad_()
    noise = drawn(quantizer, latents)
    whole, _ = quantizer.step(latents, noise)
    weights = _weights(whole)
    for t in (0, POSITIONS // 2):
        here = slice(t, t + 1)
        (gradient,) = torch.autograd.grad(whole[..., here], latents, weights[..., here], retain_graph=True)
        alone, _ = quantizer.step(latents[..., here], noise[..., here])
        (expected,) = torch.autograd.grad(alone, latents, weights[..., here])
        demand(
            close(gradient, expected),
            f"the gradient of position {t} is not that of the position alone; quantize each position alone",
        )


def bypass_passes_through(make: Make) -> None:
    """With bypass on, latents pass unchanged, at no cost, and nothing is drawn."""
    for training in (False, True):
        quantizer = ready(make, training)
        quantizer.bypass = True
        latents = sample(quantizer)
        out = quantizer(latents)
        demand(same(out.latents, latents), "with bypass on, the latents must pass unchanged; do not override step()")
        demand(
            not out.codes.any() and not out.loss and not out.bits.any(),
            "with bypass on, codes, loss and bits must be 0",
        )


def autocast_does_not_change_codes(make: Make) -> None:
    """Under bfloat16 autocast the codes are those of float32."""
    quantizer = ready(make)
    latents = sample(quantizer, 8, 64)
    plain = quantizer(latents)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = quantizer(latents)
    wrong = float((plain.codes != mixed.codes).double().mean())
    demand(
        wrong == 0 and close(plain.latents, mixed.latents.to(plain.latents.dtype)),
        f"{wrong:.1%} of the codes change under autocast; compute in step(), which switches it off",
    )


def decoding_from_any_prefix(make: Make) -> None:
    """Truncated to each of `prefixes`, it codes with the first streams of the whole, and decodes on its own."""
    quantizer = ready(make)
    latents = sample(quantizer)
    whole = quantizer(latents).codes
    prefixes = quantizer.prefixes
    demand(
        prefixes == tuple(sorted(set(prefixes))) and prefixes[-1] == whole.shape[1],
        f"prefixes must ascend to all {whole.shape[1]} streams, got {prefixes}",
    )
    for streams in prefixes:
        quantizer.truncate(streams)
        noise = drawn(quantizer, latents)
        out = quantizer(latents)
        demand(
            len(quantizer.alphabet) == streams and same(out.codes, whole[:, :streams]),
            f"truncated to {streams} streams it must write the first {streams} streams of the whole",
        )
        demand(
            same(quantizer.decode(out.codes, noise), out.latents),
            f"truncated to {streams} streams, decode() of the codes differs from the forward",
        )


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        shapes_and_alphabet,
        decode_inverts_encode,
        one_position_at_a_time,
        stepper_equals_step,
        start_continues_the_sequence,
        batch_size_does_not_matter,
        the_gradient_reaches_the_input,
        every_trained_parameter_gets_a_gradient,
        forward_does_not_change_state,
        state_round_trips,
        stacked_parameters,
        stacked_stepper_equals_step,
        jacobians_are_per_position,
        forward_equals_decode_of_encode,
        tables_are_valid,
        bypass_passes_through,
        autocast_does_not_change_codes,
        for_rate_is_met,
        coarsening_lowers_the_rate,
        fit_and_update_run,
        codes_follow_the_data,
        decoding_from_any_prefix,
        diverged_latents_do_no_harm,
    )
}


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


def _weights(output: Tensor) -> Tensor:
    return seeded(torch.randn_like, output.detach())
