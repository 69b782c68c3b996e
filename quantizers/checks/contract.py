"""The contract of a quantizer as named checks: `run_checks(lambda: MyQuantizer(channels=5))`, all 26 of them.

Each check builds its quantizers with the function it is handed and never looks at the class. A method for which one
cannot hold is passed with `expected_failures={"name": "reason"}`. codecs/checks.py does the same for codecs.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from .coding import (
    bits_agree_with_the_coder,
    bytes_round_trip,
    decode_inverts_encode,
    forward_equals_decode_of_encode,
    start_continues_the_sequence,
    state_round_trips,
    tables_are_valid,
    wild_symbols_round_trip,
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
    coded_by,
    demand,
    drawn,
    fresh,
    hook,
    mode,
    objective_of,
    ready,
    run_named,
    same,
    sample,
    seeded,
)
from .stepping import (
    bypass_passes_through,
    stacked_parameters,
    stacked_stepper_equals_step,
    stepper_equals_step,
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
                f"codes of stream {stream} must lie in 0..{size} - 1, got {low}..{high}; correct "
                f"{hook(quantizer, *(('surrogate',) if training else ('encode',)), 'alphabet')}",
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
                f"quantize each position alone and take all randomness from `noise` in {coded_by(quantizer)}",
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
            f"item {item} alone is quantized otherwise than in a batch; no statistic of the batch in "
            f"{hook(quantizer, 'encode', 'decode')}, no noise per item in {hook(quantizer, 'random')}",
        )


def the_gradient_reaches_the_input(make: Make) -> None:
    """In training every channel's gradient arrives at the input, finite."""
    quantizer = ready(make, training=True)
    latents = sample(quantizer, 8, 16).requires_grad_()
    out = quantizer(latents).latents
    built = hook(quantizer, "surrogate")
    demand(out.requires_grad, f"{built} has no gradient at all; build it from `latents`, not from codes alone")
    (gradient,) = torch.autograd.grad(out, latents, _weights(out), allow_unused=True)
    demand(
        gradient is not None and bool(gradient.isfinite().all() and gradient.ne(0).any(2).any(0).all()),
        f"the gradient at the input is missing, not finite, or zero for a whole channel; correct {built}, "
        "e.g. straight-through: latents + (decoded - latents).detach()",
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
            f"the gradient of position {t} is not that of the position alone; quantize each position alone in "
            f"{hook(quantizer, 'surrogate')}",
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
        f"{wrong:.1%} of the codes change under autocast; leave it switched off in "
        f"{hook(quantizer, 'encode', 'decode')}",
    )


def decoding_from_any_prefix(make: Make) -> None:
    """Truncated to each of `prefixes`, it codes with the first streams of the whole, and decodes on its own."""
    quantizer = ready(make)
    latents = sample(quantizer)
    whole = quantizer(latents).codes
    prefixes = quantizer.prefixes
    demand(
        prefixes == tuple(sorted(set(prefixes))) and prefixes[-1] == whole.shape[1],
        f"{hook(quantizer, 'prefixes')} must ascend to all {whole.shape[1]} streams, got {prefixes}",
    )
    for streams in prefixes:
        quantizer.truncate(streams)
        noise = drawn(quantizer, latents)
        out = quantizer(latents)
        demand(
            len(quantizer.alphabet) == streams and same(out.codes, whole[:, :streams]),
            f"truncated to {streams} streams it must write the first {streams} streams of the whole; correct "
            f"{hook(quantizer, 'truncate', 'prefixes')}",
        )
        demand(
            same(quantizer.decode(out.codes, noise), out.latents),
            f"truncated to {streams} streams, {hook(quantizer, 'decode')} of the codes differs from the forward",
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
        bytes_round_trip,
        wild_symbols_round_trip,
        bits_agree_with_the_coder,
    )
}


def _weights(output: Tensor) -> Tensor:
    return seeded(torch.randn_like, output.detach())
