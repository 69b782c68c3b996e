"""Size, multiply-accumulates and latency of codecs without their quantizers: `benchmark ls codecs --complexity`."""

from collections.abc import Callable
from typing import NamedTuple

from ...codecs.base import Codec
from ...codecs.classical.base import ClassicalCodec
from ...datamodules.base import SAMPLE_RATE
from ...quantizers.identity import Identity
from ..errors import UserError
from ..specs.registry import lookup
from ..specs.spec import AceConfig
from ..tracks.choose import DOMAINS
from ..tracks.image import columns_per_second
from ..tracks.vector import VECTORS_PER_SECOND
from .macs import macs_per_second


class Complexity(NamedTuple):
    """What a codec costs around an identity quantizer."""

    parameters: int  # of encoder and decoder
    macs_per_second: float
    positions_per_second: float
    latency_s: float  # the samples that an output waits for beyond its own position
    causal: bool


def complexity_of(name: str) -> Complexity:
    """Of a registered codec or preset; sound at 16 kHz. UserError: unknown, or of a domain without data."""
    cls, options = lookup("codecs", name)
    codec: Codec = cls(lambda channels, share: Identity(channels), **options).eval()
    rate = _rate(codec)
    return Complexity(
        sum(parameter.numel() for parameter in codec.parameters()),
        macs_per_second(codec, rate),
        rate * codec.positions_per_stride / codec.stride,
        codec.lookahead / rate,
        codec.causal,
    )


def classical_latency(name: str) -> float:
    """Seconds of algorithmic latency of a codec with nothing to train; sound at 16 kHz."""
    cls, options = lookup("classical", name)
    codec: ClassicalCodec = cls(**options)
    return codec.latency_s(SAMPLE_RATE if "waveform" in codec.domains else AceConfig().frame_rate)


def _rate(codec: Codec) -> float:
    """Samples a second of the signals of a codec's domain, as its runs have them by default."""
    rates: dict[str, Callable[[], float]] = {
        "stimulation": lambda: AceConfig().frame_rate,
        "waveform": lambda: float(SAMPLE_RATE),
        "image": lambda: columns_per_second(codec.leading[1]),
        "vector": lambda: VECTORS_PER_SECOND,
    }
    if codec.domain not in rates:
        raise UserError(f"no data for codecs of the domain {codec.domain!r} yet; there are: {', '.join(DOMAINS)}")
    return rates[codec.domain]()
