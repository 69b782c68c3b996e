"""The contract of a codec with nothing to train, executable: `benchmark check --codec NAME`."""

from collections.abc import Callable
from functools import partial

import numpy as np

from ...quantizers.checks.running import Result, demand, run_named
from .base import ClassicalCodec, Signal

Make = Callable[[], ClassicalCodec]
LENGTHS = (1, 7, 161, 577)  # samples
LONG = {"waveform": 4001, "stimulation": 223}  # samples of a quarter of a second
BANDS, SELECTED, FRAME_RATE = 22, 8, 16_000 / 18
NEAR = 1  # sample by which what is decoded may be early or late


def run_checks(make: Make) -> list[Result]:
    """Every check of CHECKS on a codec built by make(), with signals of its first domain.

    ValueError where it cannot code anything here, for want of a library.
    """
    codec = make()
    codec.check(_signal(codec, 1)[1])
    return run_named({name: partial(check, make) for name, check in CHECKS.items()})


def lengths_are_kept(make: Make) -> None:
    """A signal of any length comes back in its shape, as finite float32."""
    for length in LENGTHS:
        signal, rate = _signal(make(), length)
        decoded = make().decode(make().encode(signal, rate), length, rate)
        demand(decoded.shape == signal.shape, f"{signal.shape} comes back as {decoded.shape}")
        demand(decoded.dtype == np.float32, f"decode() gives {decoded.dtype}; give float32")
        demand(bool(np.isfinite(decoded).all()), "decode() gives NaN or infinity")


def bytes_are_all_that_counts(make: Make) -> None:
    """Two instances write the same bytes, and neither remembers the signals before."""
    codec = make()
    signal, rate = _long(codec)
    first = codec.encode(signal, rate)
    codec.encode(-signal[..., ::-1].copy(), rate)
    demand(codec.encode(signal, rate) == first == make().encode(signal, rate), "encode() depends on what came before")
    once, again = (codec.decode(first, signal.shape[-1], rate) for _ in range(2))
    demand(bool((once == again).all()), "decode() depends on what came before")


def the_lag_is_removed(make: Make) -> None:
    """What is decoded is in time with the signal."""
    codec = make()
    signal, rate = _long(codec)
    decoded = codec.decode(codec.encode(signal, rate), signal.shape[-1], rate)
    one, other = (values.reshape(-1, values.shape[-1]).sum(0) for values in (signal, decoded))
    lag = int(np.correlate(other - other.mean(), one - one.mean(), "full").argmax()) - (signal.shape[-1] - 1)
    demand(abs(lag) <= NEAR, f"what is decoded is {lag} samples late; remove the lag in decode()")


def silence_is_coded(make: Make) -> None:
    """Zeros are a signal too."""
    codec = make()
    signal, rate = _long(codec)
    decoded = codec.decode(codec.encode(np.zeros_like(signal), rate), signal.shape[-1], rate)
    demand(float(np.abs(decoded).max()) < 0.6, "silence is decoded as something loud")


def latency_is_a_time(make: Make) -> None:
    """Latency is a finite number of seconds, not below zero."""
    codec = make()
    latency = codec.latency_s(_signal(codec, 1)[1])
    demand(0 <= latency < 1, f"latency_s() gives {latency}; give the seconds")


CHECKS: dict[str, Callable[[Make], None]] = {
    check.__name__: check
    for check in (
        lengths_are_kept,
        bytes_are_all_that_counts,
        the_lag_is_removed,
        silence_is_coded,
        latency_is_a_time,
    )
}


def _long(codec: ClassicalCodec) -> tuple[Signal, float]:
    return _signal(codec, LONG["waveform" if "waveform" in codec.domains else "stimulation"])


def _signal(codec: ClassicalCodec, length: int) -> tuple[Signal, float]:
    """Vowel-like pulses of a wandering pitch, or patterns of eight bands; and samples per second."""
    generator = np.random.default_rng(0)
    if "waveform" not in codec.domains:
        levels = generator.random((BANDS, length), np.float32)
        chosen = levels.argsort(axis=0) >= BANDS - SELECTED
        return np.where(chosen, levels, np.float32(-0.1)), FRAME_RATE
    rate = codec.sample_rates[0] if codec.sample_rates and 16_000 not in codec.sample_rates else 16_000
    pitch = 120 + 30 * np.sin(np.arange(length) / rate * 9)
    phase = np.cumsum(pitch) / rate
    voiced = sum(np.sin(2 * np.pi * harmonic * phase) / harmonic for harmonic in range(1, 20))
    noise = 0.02 * generator.standard_normal(length)
    return (0.1 * voiced * (1 + np.sin(np.arange(length) / rate * 20)) + noise).astype(np.float32), float(rate)
