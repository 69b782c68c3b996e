"""codecbench: any quantizer, in any codec, at the same bitrate, on real decoded bitstreams, with an error bar."""

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .leaderboards.records import Record


def plugins(kind: Literal["quantizers", "codecs", "datamodules", "classical"]) -> dict[str, type]:
    """The plug-ins of a kind: registered name -> class."""
    from .benchmark.specs.registry import found

    return found(kind)


def run(quantizer: Any = None, codec: Any = None, **options: Any) -> "Record":
    """Train and score one combination; the Python form of `benchmark run` (names or classes). Returns the record."""
    from .benchmark.runs.run import run as run_one

    return run_one(quantizer, codec, **options)


def run_all(quantizer: Any = None, codec: Any = None, **options: Any) -> "list[Record]":
    """Train and score every combination; the Python form of `benchmark run` for a grid. Returns the records."""
    from .benchmark.runs.run import run_all as run_every

    return run_every(quantizer, codec, **options)
