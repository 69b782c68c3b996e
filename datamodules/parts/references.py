"""What the intelligibility of decoded speech is scored against, decoded once and kept on disk like the waveforms."""

from pathlib import Path

from ..base import Recordings, Split
from .cache import Progress, cached
from .waveforms import VERSION, WaveformSet, cached_waveforms


def cached_references(
    corpus: Recordings, split: Split, cache_dir: Path | None = None, progress: Progress | None = None
) -> WaveformSet:
    """What the intelligibility of a split is scored against (`Recordings.reference`), kept like cached_waveforms."""
    if type(corpus).reference is Recordings.reference:
        return cached_waveforms(corpus, split, cache_dir, progress)
    identity = [VERSION, corpus.sample_rate, corpus.level]
    return cached(WaveformSet, "references", identity, (), corpus, split, corpus.reference, cache_dir, progress)
