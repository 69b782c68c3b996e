"""The record of a run: one strict JSON file, written whole or not at all, with the scores of every item beside it."""

import csv
import io
import json
import logging
import math
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .errors import RecordError

SCHEMA = 1
RECORD_FILE = "record.json"

log = logging.getLogger(__name__)


class Score(NamedTuple):
    """One metric over the items of a run: mean and interval in `unit`, NaN where unknown."""

    mean: float
    low: float
    high: float
    n: int  # items that were scored
    failed: int  # items that could not be
    unit: str
    higher_is_better: bool


@dataclass(kw_only=True)
class Record:
    """What one run was and what came out; scores and rates of the files it wrote, not of its model's promises."""

    schema: int = SCHEMA
    spec: dict[str, Any]  # quantizer {name, options}, codec, data, bitrate, seed, training
    hash: str  # of the spec
    name: str  # of the run's folder
    track: str  # "cochlear", "speech", "audio", "image", "vector"
    scores: dict[str, Score]
    rate_kbps: dict[str, Any]  # nominal, entropy, measured, payload, target, missed
    codebook: dict[str, Any] = field(default_factory=dict)  # perplexity, size, used, dead
    complexity: dict[str, Any] = field(default_factory=dict)  # parameters, macs_per_second, latency_s, realtime_factor
    seconds: dict[str, Any] = field(default_factory=dict)  # train, encode, decode, score
    environment: dict[str, Any] = field(default_factory=dict)  # python, torch, codecbench, cpu, threads, platform
    training: dict[str, Any] = field(default_factory=dict)  # converged, steps, validation curve
    files: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    table: dict[str, Any] = field(default_factory=dict)  # columns (metrics), labels (of metrics)
    path: Path | None = field(default=None, compare=False)  # where it was read from; not written


def write(record: Record, path: Path | str) -> None:
    """Write a record as strict JSON, atomically: keys sorted, NaN and infinity as null. RecordError if it cannot."""
    content = {f.name: getattr(record, f.name) for f in fields(record) if f.name != "path"}
    if not record.table:  # of a record from before there was one
        del content["table"]
    content["scores"] = {metric: score._asdict() for metric, score in record.scores.items()}
    text = json.dumps(_strict(content), sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False)
    write_whole(path, text + "\n")


def write_whole(path: Path | str, content: str | bytes) -> None:
    """Write a file so that a reader, or a kill at any moment, meets the old file or the new one, never a part.

    Raises:
        RecordError: it cannot be written.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise RecordError(f"{path}: is no file to write to; choose another place")  # a file would replace the device
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        try:
            with draft.open("xb") as file:
                file.write(content.encode("utf-8") if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise RecordError(f"{path}: cannot be written ({error.strerror}); choose a folder that can") from error


def read(path: Path | str) -> Record:
    """Read a record. RecordError: not there, not JSON, a field is missing or malformed, or a newer schema."""
    path = Path(path)
    content = _json(path)
    content.pop("path", None)
    schema = content.get("schema")
    if not isinstance(schema, int):
        raise RecordError(f"{path}: not a record of codecbench, it has no schema number")
    if schema > SCHEMA:
        raise RecordError(
            f"{path}: schema {schema} is newer than {SCHEMA}, which this version reads; update codecbench"
        )
    known = {}
    for f in fields(Record):
        if f.name in content:
            if not isinstance(content[f.name], getattr(f.type, "__origin__", f.type)):  # type: ignore[arg-type]
                raise RecordError(f"{path}: the field {f.name!r} is malformed; make the record anew")
            known[f.name] = content[f.name]
        elif f.name in ("spec", "hash", "name", "track", "scores", "rate_kbps"):
            raise RecordError(f"{path}: the field {f.name!r} is missing; make the record anew")
    scores = {metric: _score(path, metric, score) for metric, score in known["scores"].items()}
    _check_table(path, known.get("table", {}))
    return Record(**(known | {"scores": scores, "path": path}))


def find(root: Path | str) -> list[Record]:
    """The record in a file; or every record.json below a folder, else every *.json in it, in the order of their paths.

    In a folder a file that cannot be read is logged in one line and left out. RecordError if `root` does not exist,
    or is a file that cannot be read.
    """
    root = Path(root)
    if root.is_file():
        return [read(root)]
    if not root.is_dir():
        raise RecordError(f"{root}: no such file or folder; give a record, a run or a folder of runs")
    records = []
    for path in sorted(root.rglob(RECORD_FILE)) or sorted(root.glob("*.json")):
        try:
            records.append(read(path))
        except RecordError as error:
            log.warning("left out: %s", error)
    return records


def items_path(record: Record) -> Path:
    """Where the items of a record that was read lie: items.csv beside record.json, NAME.items.csv beside NAME.json."""
    path = record.path or Path(RECORD_FILE)
    return path.with_name("items.csv") if path.name == RECORD_FILE else path.with_suffix(".items.csv")


def export(records: Iterable[Record], folder: Path | str) -> None:
    """Copy records and their items to a flat folder, NAME.json and NAME.items.csv. RecordError if that cannot be."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from error
    for record in records:
        write_items(folder / f"{record.name}.items.csv", read_items(items_path(record)))
        write(record, folder / f"{record.name}.json")


def write_items(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV, atomically: text quoted, numbers bare and exact, NaN, None and what a row lacks empty."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    write_whole(path, text.getvalue())


def read_items(path: Path | str) -> list[dict[str, Any]]:
    """Read rows: quoted cells are text, bare ones floats, empty ones NaN unless their column holds text."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, quoting=csv.QUOTE_NONNUMERIC, strict=True))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, csv.Error) as error:
        raise RecordError(f"{path}: not an items file of codecbench ({error})") from error
    if any(None in row or None in row.values() for row in rows):
        raise RecordError(f"{path}: a row is longer or shorter than the header; make the record anew")
    text = {column for row in rows for column, cell in row.items() if isinstance(cell, str) and cell}
    return [{c: math.nan if cell == "" and c not in text else cell for c, cell in row.items()} for row in rows]


def _strict(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _strict(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_strict(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise RecordError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path}: not a record of codecbench, it has no fields")
    return content


def _score(path: Path, metric: str, content: Any) -> Score:
    try:
        score = Score(**content)
        mean, low, high = (math.nan if value is None else float(value) for value in score[:3])
        return Score(mean, low, high, int(score.n), int(score.failed), str(score.unit), bool(score.higher_is_better))
    except (TypeError, ValueError) as error:
        raise RecordError(f"{path}: the score {metric!r} is malformed; it needs {', '.join(Score._fields)}") from error


def _check_table(path: Path, table: dict[str, Any]) -> None:
    columns, labels = table.get("columns", []), table.get("labels", {})
    texts = [*columns, *labels.values()] if isinstance(columns, list) and isinstance(labels, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise RecordError(f"{path}: the field 'table' is malformed; it needs columns and labels")


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool | np.bool_ | int | np.integer):
        return int(value)
    value = float(value)
    return "" if math.isnan(value) else value


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
