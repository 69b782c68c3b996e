"""Codecs with nothing to train through the same files, scores and records as the others.

sound -> [ACE] -> encode -> file -> decode -> [ACE] -> score: on the cochlear track a codec of patterns stands behind
the front end, a codec of waveforms before it. Which tracks and bitrates such a codec runs at is decided here too.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
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


def check_baseline(spec: Spec) -> None:
    """UserError where a spec's codec cannot code its data here."""
    codec = codec_of(spec)
    _, rate = front_end_for(codec, spec)
    with told_by(spec.codec.name):
        codec.check(rate)


def front_end_for(codec: ClassicalCodec, spec: Spec) -> tuple[FrontEnd, float]:
    """What stands between sound and the codec itself, and the samples per second of what that is given."""
    if _codes_patterns(codec, spec):
        return CochlearFrontEnd(spec.ace), spec.ace.frame_rate
    corpus = _recordings(corpus_of(spec))
    return WaveformFrontEnd(corpus.sample_rate, corpus.level), corpus.sample_rate


def run_baseline(spec: Spec, folder: Path, wandb: str | None, watched: Watched) -> Record:
    """Code and score the test set; the record, written last."""
    corpus = _recordings(corpus_of(spec))
    stand = _Stand(spec, corpus, CochlearFrontEnd(spec.ace) if spec.codec.options["track"] == "cochlear" else None)
    logger = wandb_logger(wandb, folder, spec)
    evaluation = _evaluated(stand, folder, watched)
    seconds, codec = evaluation.seconds, codec_of(spec)
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
            "latency_s": codec.latency_s(stand.rate(codec)),
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

    def rate(self, codec: ClassicalCodec) -> float:
        """Samples per second of what the codec is given."""
        return self.spec.ace.frame_rate if _codes_patterns(codec, self.spec) else self.corpus.sample_rate

    def load(self, source: Item) -> tuple[TestItem, Tensor]:
        """A test item with the signal of the track, and the sound that it came from."""
        sound, rate = torch.from_numpy(self.corpus.load(source)), self.corpus.sample_rate
        clean = torch.from_numpy(self.corpus.reference(source)) if self.front_end else sound
        signal = self.front_end.analyse(sound) if self.front_end else sound
        conditions = self.corpus.conditions(source)
        return TestItem(source.name, signal, clean, len(sound) / rate, len(sound), conditions), sound

    def decode(self, codec: ClassicalCodec, payload: bytes, samples: int) -> Tensor:
        """The signal of the track from the payload of a file."""
        if self.front_end is None:
            return torch.from_numpy(codec.decode(payload, samples, self.rate(codec)))
        if _codes_patterns(codec, self.spec):
            return torch.from_numpy(codec.decode(payload, self.front_end.signal_length(samples), self.rate(codec)))
        return self.front_end.analyse(torch.from_numpy(codec.decode(payload, samples, self.rate(codec))))

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
    sender, receiver, mark = codec_of(stand.spec), codec_of(stand.spec), fingerprint(stand.spec)
    seconds: dict[str, float] = {"encode": 0.0, "decode": 0.0, "score": 0.0, "audio": 0.0}
    rows, pending = [], []
    items = stand.corpus.items("test")
    examples = spread(len(items))
    with score_pool(len(items)) as pool:
        for number, source in enumerate(watched(items, "encode, decode, score")):
            item, sound = stand.load(source)
            path = files / f"{item.name}.cbs"
            given = (item.signal if _codes_patterns(sender, stand.spec) else sound).numpy()
            with timed(seconds, "encode"):
                payload = sender.encode(given, stand.rate(sender))
                bitstream.write(path, bitstream.pack(Header(item.samples), payload, mark))
            with timed(seconds, "decode"):
                header, received = bitstream.read(path, mark)
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


def fingerprint(spec: Spec) -> bytes:
    """What tells the files of one codec at one setting from those of others."""
    setting = [spec.codec.name, spec.codec.options, spec.bitrate]
    return hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).digest()


def _row(item: TestItem, bitrate: float | None, payload: int, size: int) -> dict[str, Any]:
    bits = {"payload": 8 * payload, "measured": 8 * size}
    rates = {f"{kind}_kbps": each / item.seconds / 1000 for kind, each in bits.items()}
    asked = {"nominal_kbps": nan if bitrate is None else bitrate, "entropy_kbps": nan}
    return {"item": item.name, **item.conditions, "seconds": item.seconds, "bytes": size, **asked, **rates}


def codec_of(spec: Spec) -> ClassicalCodec:
    """The codec of a spec. UserError where it refuses its bitrate or options."""
    return make_baseline(spec.codec.name, spec.codec.options, spec.bitrate)


def _codes_patterns(codec: ClassicalCodec, spec: Spec) -> bool:
    return spec.codec.options["track"] == "cochlear" and "stimulation" in codec.domains


def _recordings(corpus: Any) -> Recordings:
    assert isinstance(corpus, Recordings), "domains see to it"
    return corpus
