"""codecbench: any quantizer, in any codec, at the same bitrate, on real decoded bitstreams, with an error bar."""

from typing import Any, Literal


def plugins(kind: Literal["quantizers", "codecs", "datamodules", "baselines"]) -> dict[str, type]:
    """The plug-ins of a kind: registered name -> class."""
    from .benchmark.specs.registry import found

    return found(kind)


def run(quantizer: Any = None, codec: Any = None, **options: Any) -> Any:
    """Train and score one combination; the Python form of `benchmark run` (names or classes). Returns the record."""
    from .benchmark.runs.run import run as run_one

    return run_one(quantizer, codec, **options)
