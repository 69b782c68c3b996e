"""codecbench: any quantizer, in any codec, at the same bitrate, scored on real decoded bitstreams, with an error bar."""

from typing import Any


def plugins(kind: str) -> dict[str, type]:
    """The plug-ins of `kind` ("quantizers", "codecs", "datamodules"): registered name -> class."""
    from .benchmark.plugins import found

    return found(kind)


def run(quantizer: Any = None, codec: Any = None, **options: Any) -> Any:
    """Train and score one combination; the Python form of `benchmark run` (names or classes). Returns the record."""
    from .benchmark.run import run as run_one

    return run_one(quantizer, codec, **options)
