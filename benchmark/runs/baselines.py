"""Codecs with nothing to train through the same files, scores and records as the others.

sound -> [ACE] -> encode -> file -> decode -> [ACE] -> score: on the cochlear track a codec of patterns stands behind
the front end, a codec of waveforms before it.
"""

from importlib.metadata import version
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...codecs.files import container
from ...codecs.files.container import Header
from ...datamodules.base import Item, Recordings
from ...leaderboards import records
from ...leaderboards.records import Record
from ..metrics.base import table_of
from ..metrics.scoring.patterns import score_stimulation
from ..metrics.scoring.pool import Pending, ScorePool, score_pool
from ..metrics.scoring.waveforms import score_waveform
from ..specs.spec import Spec, build_corpus
from ..tracks.base import TestItem, Watched
from ..tracks.choose import corpus_of
from ..tracks.cochlear import CochlearFrontEnd, CochlearTrack, show_pattern
from ..tracks.waveform import show_waveform
from .coders import Placed, placed, recordings
from .evaluation import Evaluation, spread, timed
from .record import environment, rates_of, scores_of
from .wandb import log_results, wandb_logger


def run_baseline(spec: Spec, folder: Path, wandb: str | None, watched: Watched) -> Record:
    """Code and score the test set; the record, written last."""
    corpus = recordings(corpus_of(spec))
    front_end = CochlearFrontEnd(spec.ace) if spec.codec.options["track"] == "cochlear" else None
    stand = _Stand(spec, corpus, front_end, placed(spec))
    logger = wandb_logger(wandb, folder, spec)
    evaluation = _evaluated(stand, folder, watched)
    seconds, codec = evaluation.seconds, stand.sender.codec
    record = Record(
        spec=spec.recorded(),
        hash=spec.hash,
        name=spec.name,
        track=spec.codec.options["track"],
        scores=scores_of(evaluation.rows),
        rate_kbps=rates_of(spec, evaluation) | {"coder": None},
        complexity={
            "parameters": 0,
            "quantizer_parameters": 0,
            "macs_per_second": None,
            "latency_s": codec.latency_s(stand.sender.rate),
            "realtime_factor": (seconds["encode"] + seconds["decode"]) / seconds["audio"],
        },
        seconds={"train": 0.0, **seconds},
        environment=environment() | {"av": version("av")},
        files={"items": "items.csv", "bitstreams": "bitstreams", "examples": "examples"},
        notes=[*(CochlearTrack.notes if stand.front_end else ()), *codec.notes, *build_corpus(spec.data).notes()],
        table=table_of(spec.codec.options["track"]),
    )
    log_results(logger, record, folder)
    records.write_items(folder / "items.csv", evaluation.rows)
    records.write(record, folder / records.RECORD_FILE)
    return record


class _Stand(NamedTuple):
    """Where a baseline is scored: its data, and the front end of the cochlear track."""

    spec: Spec
    corpus: Recordings
    front_end: CochlearFrontEnd | None
    sender: Placed

    def load(self, source: Item) -> tuple[TestItem, Tensor]:
        """A test item with the signal of the track, and the sound that it came from."""
        sound, rate = torch.from_numpy(self.corpus.load(source)), self.corpus.sample_rate
        clean = torch.from_numpy(self.corpus.reference(source)) if self.front_end else sound
        signal = self.front_end.analyse(sound) if self.front_end else sound
        conditions = self.corpus.conditions(source)
        return TestItem(source.name, signal, clean, len(sound) / rate, len(sound), conditions), sound

    def decode(self, receiver: Placed, payload: bytes, samples: int) -> Tensor:
        """The signal of the track from the payload of a file."""
        length = receiver.front_end.signal_length(samples)
        decoded = torch.from_numpy(receiver.codec.decode(payload, length, receiver.rate))
        return decoded if self.front_end is None or receiver.of_patterns else self.front_end.analyse(decoded)

    def score(self, item: TestItem, decoded: Tensor, pool: ScorePool) -> Pending:
        """Begin to score a decoded item."""
        if self.front_end:
            return score_stimulation(item.clean, item.signal, decoded, self.spec.ace, pool.submit)
        return score_waveform(
            item.clean, decoded, self.corpus.sample_rate, self.spec.codec.options["track"], pool.submit
        )

    def show(self, item: TestItem, decoded: Tensor, folder: Path) -> None:
        """Write what one can listen to and look at."""
        if self.front_end:
            show_pattern(item, decoded, self.spec.ace, folder)
        else:
            show_waveform(item, decoded, self.corpus.sample_rate, folder)


def _evaluated(stand: _Stand, folder: Path, watched: Watched) -> Evaluation:
    """Every test item written to a file, decoded from it by another instance of the codec, and scored."""
    files, shown = folder / "bitstreams", folder / "examples"
    for place in (files, shown):
        place.mkdir(exist_ok=True)
    sender, receiver = stand.sender, placed(stand.spec)
    seconds: dict[str, float] = {"encode": 0.0, "decode": 0.0, "score": 0.0, "audio": 0.0}
    rows, pending = [], []
    items = stand.corpus.items("test")
    examples = spread(len(items))
    with score_pool(len(items)) as pool:
        for number, source in enumerate(watched(items, "encode, decode, score")):
            item, sound = stand.load(source)
            path = files / f"{item.name}.cbs"
            given = (item.signal if sender.of_patterns else sound).numpy()
            with timed(seconds, "encode"):
                payload = sender.codec.encode(given, sender.rate)
                container.write(path, container.pack(Header(item.samples), payload, sender.mark))
            with timed(seconds, "decode"):
                header, received = container.read(path, receiver.mark)
                decoded = stand.decode(receiver, received, header.samples)
            with timed(seconds, "score"):
                pending.append(stand.score(item, decoded, pool))
            if number in examples:
                stand.show(item, decoded, shown)
            seconds["audio"] += item.seconds
            rows.append(_row(item, stand.spec.bitrate, len(payload), path.stat().st_size))
        with timed(seconds, "score"):
            scores = [wait() for wait in pending]
    return Evaluation([row | own for row, own in zip(rows, scores, strict=True)], [], seconds)


def _row(item: TestItem, bitrate: float | None, payload: int, size: int) -> dict[str, Any]:
    bits = {"payload": 8 * payload, "measured": 8 * size}
    rates = {f"{kind}_kbps": each / item.seconds / 1000 for kind, each in bits.items()}
    asked = {"nominal_kbps": nan if bitrate is None else bitrate, "entropy_kbps": nan}
    return {"item": item.name, **item.conditions, "seconds": item.seconds, "bytes": size, **asked, **rates}
