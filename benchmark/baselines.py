"""Codecs with nothing to train through the same files, scores and records as the others.

sound -> [ACE] -> encode -> file -> decode -> [ACE] -> score: on the cochlear track a codec of patterns stands behind
the front end, a codec of waveforms before it. Which tracks and bitrates such a codec runs at is decided here too.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from math import nan
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from ..codecs.classical.base import ClassicalCodec, Track
from ..datamodules.base import Item, Recordings
from ..leaderboards import records
from ..leaderboards.records import Record
from . import bitstream
from .arguments import create, told_by
from .bitstream import Header
from .cochlear_track import CochlearFrontEnd, CochlearTrack, show_pattern
from .domains import corpus_of
from .errors import UserError
from .evaluation import Evaluation, spread, timed
from .metrics.speech import score_waveform
from .metrics.stimulation import score_stimulation
from .metrics.workers import Pending, ScorePool, score_pool
from .plugins import lookup
from .reporting import environment, rates_of, scores_of
from .spec import Choice, Spec, build_corpus
from .tracking import log_results, wandb_logger
from .tracks import FrontEnd, TestItem, Watched
from .waveform_track import WaveformFrontEnd, show_waveform

NO_QUANTIZER = Choice("none")


def is_classical(name: str) -> bool:
    """Whether a codec's name or preset is that of one with nothing to train. UserError: there is none of that name."""
    return issubclass(lookup("codecs", name)[0], ClassicalCodec)


def make_baseline(name: str, options: dict[str, Any], bitrate: float | None) -> ClassicalCodec:
    """The codec at a bitrate. UserError where it refuses either."""
    return create("codec", name, lookup("codecs", name)[0], options, bitrate)


def rates_to_run(name: str, asked: Sequence[float | None], alone: bool) -> list[float | None]:
    """The bitrates at which a codec runs; its own where none was asked for. UserError names those it has.

    One whose rate cannot be chosen runs once, unless it is `alone` in having been asked for rates.
    """
    cls: type[ClassicalCodec] = lookup("codecs", name)[0]  # type: ignore[assignment]
    wanted = [cls.default_bitrate if rate is None else rate for rate in asked]
    if not cls.bitrates:
        if alone and list(asked) != [None]:
            raise UserError(f"{name} has no bitrate to choose: {cls.offer()}")
        return [None]
    for rate in wanted:
        if not cls.has(rate):
            own = "" if alone else f"; {name}:bitrate=KBPS gives it one of its own"
            raise UserError(f"{name} has no {rate:g} kbit/s; {cls.offer()}{own}")
    return wanted


def domains_of(codecs: Iterable[str]) -> set[str]:
    """The domains that codecs of one call are bound to; a classical codec of waveforms goes where the others are."""
    classes = [lookup("codecs", name)[0] for name in codecs]
    bound = {cls.domain for cls in classes if not issubclass(cls, ClassicalCodec)}  # type: ignore[attr-defined]
    return bound | {
        "stimulation" for cls in classes if issubclass(cls, ClassicalCodec) and "waveform" not in cls.domains
    }


def tracks_to_run(name: str, asked: Any, kind: str, others: Collection[str]) -> list[str]:
    """Where a codec is scored on data of a kind: as `asked`, else beside the `others` (domains of the same call).

    UserError where there is no such track for this codec, or for these data.
    """
    domains = lookup("codecs", name)[0].domains  # type: ignore[attr-defined]
    both = ["cochlear", "audio" if kind == "music" else "speech"]
    possible = [track for track, can in zip(both, (kind != "music", "waveform" in domains), strict=True) if can]
    if asked is not None and asked not in possible:
        known = asked in get_args(Track)
        why = f"there are, with these data: {', '.join(possible) or 'none'}"
        raise UserError(
            f"{name} cannot be scored on the track {asked!r}; {why}" if known else f"no track {asked!r}; {why}"
        )
    if asked is not None:
        return [asked]
    wanted = [track for track, domain in zip(both, ("stimulation", "waveform"), strict=True) if domain in others]
    if not possible:  # the data are complained about elsewhere
        return ["cochlear"]
    return [track for track in wanted if track in possible] or [possible[-1]]


class Placed(NamedTuple):
    """A classical codec where a spec has it."""

    codec: ClassicalCodec
    front_end: FrontEnd  # between sound and the codec itself
    rate: float  # samples per second of what the codec is given
    mark: bytes  # tells its files from those of other codecs and settings

    @property
    def of_patterns(self) -> bool:
        """Whether the codec is given stimulation patterns, not sound."""
        return isinstance(self.front_end, CochlearFrontEnd)


def placed(spec: Spec) -> Placed:
    """A new instance of a spec's codec. UserError where it cannot code the spec's data here."""
    codec = make_baseline(spec.codec.name, spec.codec.options, spec.bitrate)
    corpus = _recordings(corpus_of(spec))
    if spec.codec.options["track"] == "cochlear" and "stimulation" in codec.domains:
        front_end, rate, given = CochlearFrontEnd(spec.ace), spec.ace.frame_rate, asdict(spec.ace)
    else:
        front_end, rate = WaveformFrontEnd(corpus.sample_rate, corpus.level), corpus.sample_rate
        given = {"sample_rate": rate}
    with told_by(spec.codec.name):
        codec.check(rate)
    setting = [spec.codec.name, spec.codec.options, spec.bitrate, given]
    return Placed(codec, front_end, rate, hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).digest())


def run_baseline(spec: Spec, folder: Path, wandb: str | None, watched: Watched) -> Record:
    """Code and score the test set; the record, written last."""
    corpus = _recordings(corpus_of(spec))
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
                bitstream.write(path, bitstream.pack(Header(item.samples), payload, sender.mark))
            with timed(seconds, "decode"):
                header, received = bitstream.read(path, receiver.mark)
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


def _recordings(corpus: Any) -> Recordings:
    assert isinstance(corpus, Recordings), "domains see to it"
    return corpus
