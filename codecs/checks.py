"""The contract of a codec as named checks: `run_checks(MyCodec)`, or with the quantizers of your choice.

Each check is handed a function that builds the codec around given quantizers, and a source of test signals for the
codec's domain; it never looks at a class. The checks' machinery is that of quantizers/checks.py.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from safetensors.torch import load, save
from torch import Tensor

from ..quantizers.checks.coding import check_tables
from ..quantizers.checks.running import (
    Result,
    changes,
    check_gradients,
    check_state_is_kept,
    close,
    demand,
    mode,
    objective_of,
    run_named,
    same,
    seeded,
    state_of,
)
from ..quantizers.identity import Identity
from .base import Codec, Coded, Maker

MakeSignal = Callable[[int, int, torch.Generator], Tensor]  # (batch, length, generator) -> signal "B ... length"
BANDS, SELECTED, UNSELECTED = 22, 4, -0.1
CHANNELS = 2
POSITIONS = 12  # of a test signal, give or take


def stimulation(batch: int, length: int, generator: torch.Generator) -> Tensor:
    """Patterns "B 22 T": four random bands of a frame in [0, 1], -0.1 elsewhere."""
    values = torch.rand(batch, BANDS, length, generator=generator)
    ranks = torch.rand(batch, BANDS, length, generator=generator).argsort(1)
    return torch.where(ranks < SELECTED, values, UNSELECTED)


def vector(batch: int, length: int, generator: torch.Generator) -> Tensor:
    """Standard normal vectors "B 2 T"."""
    return torch.randn(batch, CHANNELS, length, generator=generator)


def waveform(batch: int, length: int, generator: torch.Generator) -> Tensor:
    """Mono noise "B N" at -20 dBFS."""
    return 0.1 * torch.randn(batch, length, generator=generator)


def image(batch: int, length: int, generator: torch.Generator) -> Tensor:
    """Random pixels "B 3 32 W" in [0, 1], W the length."""
    return torch.rand(batch, 3, 32, length, generator=generator)


SIGNALS: dict[str, MakeSignal] = {
    "stimulation": stimulation,
    "vector": vector,
    "waveform": waveform,
    "image": image,
}


class Subject(NamedTuple):
    """What a check is about: how to build the codec, and signals for it."""

    build: Callable[[], Codec]
    make_signal: MakeSignal | None

    def codec(self, training: bool = False) -> Codec:
        """A new codec whose quantizers were fitted on signals."""
        codec = seeded(self.build).train()
        seeded(codec.fit, self.signal(codec, batch=16, length=128 * codec.stride))
        return codec.train(training)

    def signal(self, codec: Codec, batch: int = 3, length: int | None = None, seed: int = 1) -> Tensor:
        """Test signals of the codec's domain, 12 positions long unless told."""
        if self.make_signal is None and codec.domain not in SIGNALS:
            raise ValueError(
                f"no test signal for the domain {codec.domain}; pass make_signal(batch, length, generator)"
            )
        make = self.make_signal or SIGNALS[codec.domain]
        length = POSITIONS * codec.stride if length is None else length
        return make(batch, length, torch.Generator().manual_seed(seed)).to(codec.dtype)


def run_checks(
    make_codec: Callable[[Maker], Codec],
    make_quantizer: Maker = lambda channels, share: Identity(channels),
    expected_failures: Mapping[str, str] | None = None,
    make_signal: MakeSignal | None = None,
) -> list[Result]:
    """Every check of CHECKS on codecs built by make_codec(make_quantizer), with signals of the codec's domain."""
    subject = Subject(lambda: make_codec(make_quantizer), make_signal)
    return run_named({name: partial(check, subject) for name, check in CHECKS.items()}, expected_failures)


def decode_of_encode_is_forward(subject: Subject) -> None:
    """In evaluation decode(encode(signal), shape) is the forward's signal bit for bit, one item at a time."""
    codec = subject.codec()
    signals = subject.signal(codec).split(1)
    codes = [codec.encode(signal) for signal in signals]  # all of them first: nothing may be left over from the item
    for signal, coded in zip(signals, codes, strict=True):
        decoded = codec.decode(coded, tuple(signal.shape[1:]))
        with torch.no_grad():
            out = codec(signal).signal
        demand(
            same(decoded, out),
            "decode() of the codes differs from the forward; it may use codes, shape and state alone",
        )


def odd_lengths_keep_their_shape(subject: Subject) -> None:
    """A signal of any length comes back in its shape, in positions(shape) latent positions."""
    codec = subject.codec()
    for length in (1, codec.stride + 1, 7 * codec.stride - 1, 11 * codec.stride):
        signal = subject.signal(codec, 1, length)
        shape = tuple(signal.shape[1:])
        codes = codec.encode(signal)
        for name, got in (("forward", codec(signal).signal), ("decode", codec.decode(codes, shape))):
            demand(got.shape == signal.shape, f"{name} turns a signal of {tuple(signal.shape)} into {tuple(got.shape)}")
        demand(
            codes.shape[2] == codec.positions(shape),
            f"{length} samples give {codes.shape[2]} positions, stride and positions_per_stride say "
            f"{codec.positions(shape)}; correct them or forward()",
        )


def one_item_equals_a_batch(subject: Subject) -> None:
    """In evaluation an item gets the codes it gets alone, and its signal within 1e-5."""
    codec = subject.codec()
    signal = subject.signal(codec)
    with torch.no_grad():
        whole, parts = codec(signal), [codec(item) for item in signal.split(1)]
    demand(
        close(whole.signal, torch.cat([part.signal for part in parts])),
        "an item alone is decoded otherwise than in a batch; use no statistic of the batch in forward()",
    )
    for quantizer, together, *alone in zip(
        codec.quantizers, whole.quantized, *(p.quantized for p in parts), strict=True
    ):
        latents = torch.cat([part.latents for part in alone])
        codes = torch.cat([part.codes for part in alone])
        lossless = quantizer.nominal_bits >= 32 * quantizer.channels  # its codes follow the last bit of a float
        demand(
            close(together.latents, latents) and (lossless or same(together.codes, codes)),
            "an item alone gets other codes than in a batch; use no statistic of the batch in forward()",
        )


def no_output_depends_on_a_later_input(subject: Subject) -> None:
    """Where codec.causal: outputs and codes up to a sample do not change with what comes after it and the lookahead."""
    codec = seeded(subject.build).double().eval()
    for quantizer in codec.quantizers:
        quantizer.bypass = True  # in float64, where nothing hides a small dependence
    signal, other = subject.signal(codec), subject.signal(codec, seed=2)
    for position in (1, POSITIONS // 2, POSITIONS - 1) if codec.causal else ():
        end = position * codec.stride
        with torch.no_grad():
            before, after = codec(signal), codec(torch.cat([signal[..., :end], other[..., end:]], -1))
        known = max(0, end - codec.lookahead) // codec.stride  # positions that have all they wait for
        streams = [(before.signal, after.signal, known * codec.stride)]
        pairs = zip(before.quantized, after.quantized, strict=True)
        streams += [(first.latents, second.latents, known) for first, second in pairs]
        for first, second, length in streams:
            demand(
                torch.allclose(first[..., :length], second[..., :length], rtol=0, atol=1e-9),
                f"the first {known} positions change with inputs after sample {end}; pad convolutions on the left, "
                "or correct lookahead",
            )
        demand(not same(before.signal, after.signal), "the output does not depend on the input")


def every_parameter_gets_a_gradient(subject: Subject) -> None:
    """In training every parameter that asks for a gradient gets one from signal, losses or bits."""
    codec = subject.codec(training=True)
    if not any(parameter.requires_grad for parameter in codec.parameters()):
        return  # such as no codec around a quantizer that gradients do not train
    out: Coded = codec(subject.signal(codec, 8))
    check_gradients(codec, objective_of(out.signal, out.quantized))


def forward_does_not_change_state(subject: Subject) -> None:
    """Neither the checkpoint's state nor hidden state in Python changes in a forward."""
    for training in (False, True):
        codec = subject.codec(training)
        check_state_is_kept(codec, subject.signal(codec), subject.signal(codec, seed=2))


def state_round_trips(subject: Subject) -> None:
    """A fresh codec that loads the state_dict does the same, bit for bit, from signal to coding tables."""
    codec = subject.codec()
    signal = subject.signal(codec)
    codec.fit_tables(codec.encode(signal))
    data = save(codec.state_dict())
    other = seeded(subject.build, seed=1)
    other.load_state_dict(load(data))
    demand(save(other.state_dict()) == data, "a fresh codec that loaded the state saves other bytes")
    for training in (False, True):
        first, second = (seeded(module.train(training), signal) for module in (codec, other))
        demand(
            same(first.signal, second.signal) and same(first.quantized, second.quantized),
            f"a fresh codec that loaded the state differs in {mode(codec)}; keep all state in Parameters and buffers",
        )


def frozen_phases_do_not_move(subject: Subject) -> None:
    """A step of one phase, quantizer updates included, leaves the others' parameters and buffers alone; later phases
    are left out."""
    for number, phase in enumerate((*subject.codec().phases, None)):  # None: everything is frozen
        codec = subject.codec()
        codec.phase = None if phase is None else number
        trainable = {name for name, parameter in codec.named_parameters() if parameter.requires_grad}
        begins = tuple(f"{child}." if child else "" for child in codec.phases)
        outside = sorted(name for name in trainable if not name.startswith(begins))
        demand(not outside, f"no phase trains {', '.join(outside)}; name its module in phases")
        codec.requires_grad_(False)
        begin = "no phase" if phase is None else f"{phase}." if phase else ""
        if phase is not None:
            codec.get_submodule(phase).train()
        trained = [
            p.requires_grad_() for name, p in codec.named_parameters() if name in trainable and name.startswith(begin)
        ]
        before = state_of(codec)
        out: Coded = codec(subject.signal(codec))
        active = _quantizers_of(codec, codec.phases if phase is None else codec.phases[: number + 1])
        demand(
            len(out.quantized) == active,
            f"in the phase {phase!r} {len(out.quantized)} quantizers gave results, not {active}; "
            "leave later phases out of forward(), see Codec.active_phases",
        )
        if trained:
            objective_of(out.signal, out.quantized).backward()
            torch.optim.SGD(trained, lr=0.1).step()
        codec.update(out, 0.5)
        moved = changes(before, state_of(codec))
        strays = [name for name in moved if not name.startswith(begin)]
        demand(not strays, f"training the phase {phase!r} moved {', '.join(strays)}; it is frozen")
        demand(bool(moved) or not trained, f"training the phase {phase!r} moved nothing")


def _quantizers_of(codec: Codec, phases: tuple[str, ...]) -> int:
    """How many quantizers some phases hold."""
    inside = {module for name in phases for module in codec.get_submodule(name).modules()}
    return sum(quantizer in inside for quantizer in codec.quantizers)


def streams_are_in_order(subject: Subject) -> None:
    """encode() gives each quantizer's streams in the order of codec.quantizers, and tables for all of them."""
    codec = seeded(subject.build).eval()
    signal = subject.signal(codec)
    with torch.no_grad():
        out: Coded = codec(signal)
    demand(
        len(out.quantized) == len(codec.quantizers),
        f"{len(codec.quantizers)} quantizers gave {len(out.quantized)} results; return one Quantized each, in order",
    )
    for quantizer, part, codes in zip(codec.quantizers, out.quantized, codec.split(codec.encode(signal)), strict=True):
        streams = len(quantizer.alphabet)
        demand(
            part.codes.shape[1] == streams and same(part.codes, codes),
            f"{part.codes.shape[1]} streams of a quantizer that has {streams}; keep the order of codec.quantizers",
        )
        noise = quantizer.draw(codes.shape[0], codes.shape[2])
        demand(
            close(quantizer.decode(codes, noise), part.latents),
            "a quantizer decodes its streams to other latents; keep the order of codec.quantizers",
        )
    check_tables(codec, codec.alphabet, codec.encode(signal))


Check = Callable[[Subject], None]
CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        decode_of_encode_is_forward,
        odd_lengths_keep_their_shape,
        one_item_equals_a_batch,
        no_output_depends_on_a_later_input,
        every_parameter_gets_a_gradient,
        forward_does_not_change_state,
        state_round_trips,
        frozen_phases_do_not_move,
        streams_are_in_order,
    )
}
