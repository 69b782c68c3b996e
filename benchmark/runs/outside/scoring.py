"""What another codec decoded, scored and recorded as a run is: `benchmark score`.

references, decoded files, bitstreams -> pairs by name -> one sample rate, length and delay checked -> scores -> record

A decoded file at another sample rate is resampled to that of its reference (soxr HQ); one that is a little longer or
shorter is cut or padded at its end, as codecs of whole frames need it. A delay that all files share is found by
cross-correlation and refused, or taken out where that is asked for. None of it is done in silence: what happened to how
many files stands in the record, as does what was left of their delays.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import scipy.signal
import soundfile
import torch
from rich.console import Console
from rich.progress import track as progress_bar

from ....datamodules.base import (
    LEVEL,
    RATES,
    SHORTEST_SECONDS,
    SILENCE,
    active_level,
    content_hash,
    read_audio,
    resample,
    shown,
)
from ....datamodules.cochlear.ace import SAMPLE_RATE, AceConfig
from ....leaderboards import records
from ....leaderboards.records import Record
from ....leaderboards.tables import terminal_table
from ...errors import UserError
from ...specs.spec import code_version
from ...tracks.base import Scorer, TestItem
from ...tracks.cochlear import CochlearFrontEnd, CochlearScorer
from ...tracks.waveform import WaveformScorer
from ..evaluation import EXAMPLES, Coding, Seconds, Subject, evaluate
from ..record import ITEMS, make_record
from .pairing import Pair, Scoring, complain_about, paired
from .references import read_manifest

AUDIO_FROM = 32_000  # Hz from which on references are taken for audio rather than speech
SLACK = 0.1  # seconds by which a decoded file may be longer or shorter
LATEST = 0.25  # seconds of delay that are looked for
IN_TIME = 0.001  # seconds of delay that pass
ALIKE = 0.2  # normalised cross-correlation below which a delay is not to be trusted
LONGEST_NAME = 80  # characters


def score(request: Scoring, output_dir: Path, console: Console) -> Record:
    """Score what a codec decoded; the record is written below `output_dir`, beside those of runs.

    UserError, DataError: files that do not pair, differ too much in length, are late, or cannot be read.
    """
    if request.name is not None and not (request.name.strip() and request.name.isprintable()):
        raise UserError(f"--name {request.name!r}: a name has one line of printable characters")
    pairs = paired(request)
    rate = _common_rate(request, pairs)
    spec = _spec(request, pairs, rate)
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]
    names = [spec[part]["name"][:LONGEST_NAME] for part in ("codec", "quantizer", "data")]
    title = re.sub(r"[^\w.-]+", "_", "_".join(names))
    folder = output_dir / f"{title}_{digest}"

    def watched(what: Iterable[Pair], description: str) -> Iterable[Pair]:
        return progress_bar(list(what), description=description, console=console, transient=True)

    delays = [_delay(pair, rate) for pair in watched(pairs, "delay")]
    delay = _common_delay(delays, rate, request)
    try:
        (folder / EXAMPLES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{shown(folder)}: cannot be written ({error.strerror}); name another --output-dir") from error
    scorer = CochlearScorer(AceConfig()) if spec["track"] == "cochlear" else WaveformScorer(rate, spec["track"])
    files = DecodedFiles(pairs, rate, delay, scorer)
    evaluation = evaluate(files, scorer, folder, lambda sources, _: watched(sources, "score"))
    rows = evaluation.rows
    record = make_record(
        spec,
        digest,
        folder.name,
        scorer,
        evaluation,
        _rates(rows),
        [*files.notes(), *_delay_notes(delays, delay, rate)],
        files={"items": ITEMS, "examples": EXAMPLES},
    )
    records.write_items(folder / ITEMS, rows)
    records.write(record, folder / records.RECORD_FILE)
    console.print(terminal_table([record]))
    console.print(f"files: {folder}", highlight=False, soft_wrap=True)
    return record


@final
class DecodedFiles(Subject):
    """Pairs of references and decoded files, at one rate; on the cochlear track both go through the ACE front end."""

    def __init__(self, pairs: Sequence[Pair], rate: int, delay: int, scorer: Scorer) -> None:
        self.sources, self.rate, self.delay = pairs, rate, delay
        self.front_end = CochlearFrontEnd(scorer.config) if isinstance(scorer, CochlearScorer) else None
        self.changes: Counter[str] = Counter()
        self.coding: Coding | None = None

    def load(self, source: Pair) -> TestItem:
        reference, decoded, changes = _signals(source, self.rate, self.delay)
        self.changes.update(changes)
        seconds = len(reference) / self.rate
        clean, coded = torch.from_numpy(reference), torch.from_numpy(decoded)
        signal = clean
        if self.front_end is not None:
            clean, coded = _levelled(reference, decoded, self.rate)
            signal, coded = (self.front_end.analyse(sound) for sound in (clean, coded))
        self.coding = Coding(coded, _bytes(source, seconds))
        return TestItem(source.name, signal, clean, seconds, len(clean))

    def code(self, item: TestItem, folder: Path, seconds: Seconds) -> Coding:
        assert self.coding is not None, "load() comes first"
        return self.coding

    def notes(self) -> list[str]:
        """What had to be done to decoded files."""
        total = len(self.sources)
        return [f"{count} of {total} decoded files were {what}" for what, count in sorted(self.changes.items())]


def _common_rate(request: Scoring, pairs: list[Pair]) -> int:
    """That of all references, in Hz. UserError: they have several, or one is too short."""
    rates = set()
    for pair in pairs:
        waveform, rate = _audio(pair.reference)
        rates.add(rate)
        if len(waveform) < SHORTEST_SECONDS * rate:
            raise UserError(f"{shown(pair.reference)}: lasts {len(waveform) / rate:.2f} s; at least 0.5 s are needed")
    if len(rates) > 1:
        raise UserError(f"{shown(request.reference)}: holds several sample rates, {sorted(rates)} Hz; use one")
    return rates.pop()


def _audio(path: Path) -> tuple[np.ndarray, int]:
    waveform, rate = read_audio(path)
    if not RATES[0] <= rate <= RATES[1]:
        raise UserError(f"{shown(path)}: its sample rate of {rate} Hz is not between {RATES[0]} and {RATES[1]}")
    return waveform, rate


def _spec(request: Scoring, pairs: list[Pair], rate: int) -> dict[str, Any]:
    """What made the scores, in the form of a run's spec; files count by their contents."""
    manifest = read_manifest(request.reference)
    if manifest:
        stems = {str(pair.reference.relative_to(request.reference).with_suffix("")) for pair in pairs}
        remedy = "move them away, they are not of these data"
        complain_about("benchmark references did not write", stems - manifest.files.keys(), request.reference, remedy)
    contents = [(pair.name, content_hash(pair.reference)) for pair in pairs]
    track = request.track or ("audio" if rate >= AUDIO_FROM else "speech")
    if manifest and manifest.noisy and track == "cochlear":
        raise UserError(
            f"{shown(request.reference)}: holds noisy speech, VSTOI needs the clean one; leave --track cochlear out"
        )
    return {
        "quantizer": {"name": request.name or request.decoded.resolve().name, "options": {}},
        "codec": {"name": "outside", "options": {}},
        "data": manifest.data if manifest else {"name": request.reference.resolve().name, "options": {}},
        "data_fingerprint": manifest.data_fingerprint if manifest else _digest(contents),
        "track": track,
        "align": request.align,
        "decoded": _digest([(pair.name, content_hash(pair.decoded)) for pair in pairs]),
        "bitstreams": _digest([(pair.name, content_hash(pair.bitstream)) for pair in pairs if pair.bitstream]),
        "bitrate": None,
        "seed": None,
        "version": code_version(),
    }


def _digest(contents: Any) -> str:
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:16]


def _delay(pair: Pair, rate: int) -> int | None:
    """Samples by which the decoded file is late; None where the two are too unlike to tell. UserError: other length."""
    reference, decoded, _ = _read(pair, rate)
    most = round(SLACK * rate)
    if abs(len(decoded) - len(reference)) > most:
        raise UserError(
            f"{shown(pair.decoded)}: lasts {len(decoded) / rate:.2f} s, its reference {len(reference) / rate:.2f} s; "
            f"at most {SLACK} s more or less can be mended"
        )
    reference, decoded = reference.astype(np.float64), decoded.astype(np.float64)
    power = math.sqrt(float(np.square(reference).sum()) * float(np.square(decoded).sum()))
    if power == 0:
        return None
    likeness = scipy.signal.correlate(decoded, reference, mode="full", method="fft") / power
    lags = scipy.signal.correlation_lags(len(decoded), len(reference))
    near = np.abs(lags) <= round(LATEST * rate)
    best = int(np.argmax(np.where(near, likeness, -np.inf)))
    return int(lags[best]) if likeness[best] > ALIKE else None


def _common_delay(delays: list[int | None], rate: int, request: Scoring) -> int:
    """What is to be taken out: 0, or the median delay. UserError: the files are late and nobody asked for that."""
    known = [delay for delay in delays if delay is not None]
    common = int(np.median(known)) if known else 0
    if request.align:
        return common
    if abs(common) > IN_TIME * rate:
        raise UserError(
            f"{shown(request.decoded)}: decoded files are {abs(common)} samples ({1000 * abs(common) / rate:.1f} ms) "
            f"{'late' if common > 0 else 'early'}; add --align to take that out"
        )
    return 0


def _delay_notes(delays: list[int | None], taken_out: int, rate: int) -> list[str]:
    """What was done about the delays, and what was not."""
    left = [abs(delay - taken_out) for delay in delays if delay not in (None, taken_out)]
    notes = [f"a delay of {taken_out} samples at {rate} Hz was taken out"] * (taken_out != 0)
    if left:
        notes.append(
            f"{len(left)} of {len(delays)} decoded files are up to {max(left)} samples at {rate} Hz late or early: "
            "SNR and its kin are lower for it"
        )
    if unlike := delays.count(None):
        notes.append(f"{unlike} of {len(delays)} decoded files are unlike their references; their delay is unknown")
    return notes


def _read(pair: Pair, rate: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Both signals [N], [M] at `rate`, and the decoded file's own rate."""
    reference, (decoded, own) = _audio(pair.reference)[0], _audio(pair.decoded)
    return reference, decoded if own == rate else resample(decoded, own, rate).astype(np.float32), own


def _signals(pair: Pair, rate: int, delay: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Both signals at one length, the decoded one without the delay, and what else had to be done to it."""
    reference, decoded, own = _read(pair, rate)
    moved = decoded[delay:] if delay >= 0 else np.pad(decoded, (-delay, 0))
    length = len(reference)
    fitted = np.pad(moved[:length], (0, max(0, length - len(moved))))
    channels = soundfile.info(pair.decoded).channels
    changes = [f"averaged from {channels} channels to one"] * (channels > 1)
    changes += [f"resampled from {own} to {rate} Hz"] * (own != rate)
    changes += ["cut or padded to the length of their references"] * (len(decoded) != length)
    return reference, fitted, changes


def _levelled(reference: np.ndarray, decoded: np.ndarray, rate: int) -> list[torch.Tensor]:
    """Both at the rate of the ACE front end and at the level that it is set for; one gain for both."""
    signals = [
        resample(signal, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else signal for signal in (reference, decoded)
    ]
    level = active_level(signals[0], SAMPLE_RATE)
    gain = 10 ** ((LEVEL - level) / 20) if level >= SILENCE else 1.0
    return [torch.from_numpy((signal * gain).astype(np.float32)) for signal in signals]


def _bytes(pair: Pair, seconds: float) -> dict[str, Any]:
    if pair.bitstream is None:
        return {}
    size = pair.bitstream.stat().st_size
    return {"bytes": size, "measured_kbps": 8 * size / seconds / 1000}


def _rates(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Bytes over seconds of the whole set; unknown without bitstreams."""
    bits, seconds = sum(8 * row.get("bytes", math.nan) for row in rows), sum(row["seconds"] for row in rows)
    unknown = dict.fromkeys(("nominal", "entropy", "payload"), math.nan)
    return unknown | {"measured": bits / seconds / 1000, "coder": None, "target": None, "missed": False}
