"""The report of `benchmark reproduce`: claims with verdicts, the paper's tables beside ours, its figures; Markdown.

Everything comes from records and their items; what has not been run is a dash, and said.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..item_plots import Labels, Point, boxes, by_condition, curves
from ..records import Record, write_whole
from ..tables import label_of
from .judging import Estimate, Judged, NotTestedError, Results, estimate, judge, text_of, value_of, within
from .model import ClaimsFile, Column, Criterion, Figure, Side, Split, Table, matching

REPORT = "report.md"
SET: dict[Split, str] = {"test": "test set", "train": "train set"}
NONE = "–"
COUNTED = {
    "holds": "hold",
    "does not hold": "do not hold",
    "undecided": "are undecided",
    "not tested": "are not tested",
}
OWN_LABELS = {"bits_per_frame": "bits a frame", "codebook.perplexity": "perplexity", "snr_db": "SNR (dB)"}


def write_report(
    file: ClaimsFile, profile: str, results: Results, failed: Mapping[str, str], command: str, folder: Path
) -> Path:
    """Write the report and its figures to `folder`; the report's path."""
    planned = list(file.runs[profile])
    results = {label: results[label] for label in planned if label in results}
    judged = [judge(claim, split, results, planned) for claim in file.claims for split in claim.splits]
    again = f"{command} --report-only"
    parts = [
        f"# Claims of {file.paper}\n",
        *_head(file, profile, results, judged, command),
        "## Claims\n",
        *_claims_table(judged),
        "### What each verdict rests on\n",
        *_details(judged),
        "## Tables\n",
        *(line for table in file.tables for line in _table(table, planned, results, again)),
        "## Figures\n",
        *(line for figure in file.figures for line in _figure(figure, results, folder, again)),
        "## Runs\n",
        *_runs(planned, results, failed),
    ]
    path = folder / REPORT
    write_whole(path, "\n".join(parts) + "\n")
    return path


def _head(file: ClaimsFile, profile: str, results: Results, judged: Sequence[Judged], command: str) -> Iterable[str]:
    records = _records(results)
    verdicts = [one.verdict for one in judged]
    counted = [f"{verdicts.count(verdict)} {words}" for verdict, words in COUNTED.items()]
    yield f"**{len(judged)} tests of {len(file.claims)} claims: {', '.join(counted)}.**"
    yield f"{len(results)} of {len(file.runs[profile])} runs are finished.\n"
    yield f"Made by `{command}` (profile {profile}: {file.profiles[profile].cost}). "
    yield f"From the records alone: `{command} --report-only`.\n"
    yield f"{_counted(results)}\n"
    yield "Notes\n"
    notes = [note for record in records for note in record.notes]
    versions = sorted({str(record.spec.get("version")) for record in records})
    mixed = [f"the runs were made by {len(versions)} versions of the code: {', '.join(versions)}"] * (len(versions) > 1)
    yield from (f"- {note}" for note in [*file.notes, *dict.fromkeys(notes), *mixed])
    yield "\nProtocol\n"
    yield from (f"- {line}" for line in file.protocol)
    yield ""


def _counted(results: Results) -> str:
    """How many items and which seeds there are."""
    items = {split: [len(run.rows.get(split, [])) for by in results.values() for run in by.values()] for split in SET}
    seeds = sorted({str(record.spec.get("seed")) for record in _records(results)})
    shown = [f"{words}: {max(items[split], default=0)} items" for split, words in SET.items()]
    return f"{'; '.join(shown)}; seeds {', '.join(seeds)}.".capitalize()


def _records(results: Results) -> list[Record]:
    return [result.record for by_seed in results.values() for result in by_seed.values()]


def _claims_table(judged: Sequence[Judged]) -> Iterable[str]:
    rows = []
    for one in judged:
        claim = one.claim
        where = f"{claim.where}; {SET[one.split]}" if len(claim.splits) > 1 else claim.where
        only = f" [{text_of(claim.subset)}]" if claim.subset else ""
        ours = one.why if one.verdict == "not tested" else _ours(one)
        rows.append([f"{claim.statement}{only} ({where})", claim.paper, ours, f"**{one.verdict}**"])
    yield from _markdown(["claim", "paper", "ours [95 %]", "verdict"], rows)


def _ours(judged: Judged) -> str:
    findings = judged.findings
    if len(findings) == 1:
        return _interval(findings[0].estimate, _signed(findings[0].what))
    held = sum(finding.verdict == "holds" for finding in findings)
    signed, several = _signed(findings[0].what), len({finding.what.partition(":")[0] for finding in findings}) > 1
    low, high = (_number(choose(finding.estimate.mean for finding in findings), signed) for choose in (min, max))
    return f"{held} of {len(findings)} hold" + ("" if several else f"; {low} to {high}")


def _details(judged: Sequence[Judged]) -> Iterable[str]:
    for one in judged:
        yield f"- `{one.claim.id}`, {SET[one.split]}: {one.verdict}{f' ({one.why})' if one.why else ''}"
        for what, interval, verdict in one.findings:
            items = f", {interval.items} items" if interval.items else ""
            yield f"  - {what} = {_interval(interval, _signed(what))}{items}: {verdict}"
    yield ""


def _table(table: Table, planned: Sequence[str], results: Results, command: str) -> Iterable[str]:
    """The rows of this profile; how many others the paper has."""
    header = ["run"]
    for metric in table.metrics:
        header += [f"{_label(metric)} paper", *(f"ours, {SET[split]} [95 %]" for split in table.splits)]
    rows = []
    shown = {label: numbers for label, numbers in table.paper.items() if label in planned}
    for label, numbers in shown.items():
        row = [label]
        for metric, number in zip(table.metrics, numbers, strict=True):
            signed = metric.startswith("d")
            row.append(NONE if number is None else f"{number:{'+' if signed else ''}}".replace("-", "−"))
            row += [_cell(results, label, metric, split, signed) for split in table.splits]
        rows.append(row)
    yield f"### {table.title}\n"
    if rows:
        yield from _markdown(header, rows)
    if others := len(table.paper) - len(shown):
        yield f"Of the paper's {len(table.paper)} rows this profile leaves out {others}.\n"
    references = [f"{SET[split]} {_reference(results, split)}" for split in table.splits]
    yield f"{table.note} Uncoded VSTOI, ours: {', '.join(references)}. Made by `{command}`.\n".strip()


def _cell(results: Results, label: str, metric: str, split: Split, signed: bool) -> str:
    try:
        return _interval(_value(results, label, metric, split), signed)
    except NotTestedError:
        return NONE


def _value(
    results: Results, label: str, metric: str, split: Split, subset: Mapping[str, Any] | None = None
) -> Estimate:
    if not results.get(label):
        raise NotTestedError(f"{label} has not been run")
    return estimate(
        Criterion("value", Column(metric), (Side((label,)),), "at_least", 0.0), subset or {}, split, results
    )


def _reference(
    results: Results, split: Split, metric: str = "vstoi_uncoded", subset: Mapping[str, Any] | None = None
) -> str:
    level = _level(results, list(results), split, metric, subset or {})
    return NONE if level is None else _number(level)


def _level(
    results: Results, labels: Sequence[str], split: Split, metric: str, subset: Mapping[str, Any]
) -> float | None:
    """The reference of the first run that has it; all runs share their items."""
    for label in labels:
        try:
            return _value(results, label, metric, split, subset).mean
        except NotTestedError:
            continue
    return None


def _figure(figure: Figure, results: Results, folder: Path, command: str) -> Iterable[str]:
    yield f"### {figure.title}\n"
    try:
        caption = DRAW[figure.kind](figure, results, folder / figure.file)
    except (ValueError, NotTestedError) as reason:
        yield f"Not drawn: {reason}.\n"
        return
    yield f"![{figure.title}]({figure.file})\n"
    yield f"{SET[figure.split].capitalize()}{caption}. Made by `{command}`.\n"


def _draw_rates(figure: Figure, results: Results, path: Path) -> str:
    points: dict[str, list[Point]] = {}
    for name, label in _runs_of(figure, results):
        try:
            rate, score = (_value(results, label, metric, figure.split) for metric in (figure.rate, figure.metric))
        except NotTestedError:
            continue
        points.setdefault(name, []).append(Point(rate.mean, *score[:3]))
    labels = Labels("", _label(figure.rate), f"{_label(figure.metric)}, 95 % interval")
    level = _level(results, list(results), figure.split, f"{figure.metric}_uncoded", {})
    curves(points, path, labels, level)
    return ""


def _draw_boxes(figure: Figure, results: Results, path: Path) -> str:
    values: dict[str, list[float]] = {}
    for name, label in _runs_of(figure, results):
        rows = [row for row in _rows(results, label, figure.split) if within(row, figure.subset)]
        values.setdefault(name, []).extend(value_of(row, Column(figure.metric)) for row in rows)
    used = [label for _, label in _runs_of(figure, results)]
    level = _level(results, used, figure.split, figure.reference, figure.subset) if figure.reference else None
    boxes(values, path, Labels("", "", _label(figure.metric), f"uncoded, mean {level or 0:.3f}"), level)
    only = f", {text_of(figure.subset)}" if figure.subset else ""
    return f"{only}, {max(map(len, values.values()))} items; dashed: the mean of the uncoded patterns"


def _draw_by(figure: Figure, results: Results, path: Path) -> str:
    pairs: dict[str, list[tuple[float, float]]] = {}
    for name, label in _runs_of(figure, results):
        for row in _rows(results, label, figure.split):
            if figure.condition not in row or figure.metric not in row:
                raise NotTestedError(f"the items have no {figure.condition} or no {figure.metric}")
            pairs.setdefault(name, []).append((float(row[figure.condition]), float(row[figure.metric])))
    level = 0.0 if figure.metric.startswith("d") else None
    by_condition(pairs, path, Labels("", _label(figure.condition), f"{_label(figure.metric)}, 95 % interval"), level)
    return ""


DRAW = {"rate": _draw_rates, "boxes": _draw_boxes, "by": _draw_by}


def _runs_of(figure: Figure, results: Results) -> list[tuple[str, str]]:
    """Name in the legend and label, for every finished run."""
    return [(name, label) for name, side in figure.runs.items() for label in matching(side.patterns, list(results))]


def _rows(results: Results, label: str, split: Split) -> list[Mapping[str, Any]]:
    return [row for result in results[label].values() for row in result.rows.get(split, [])]


def _runs(planned: Sequence[str], results: Results, failed: Mapping[str, str]) -> Iterable[str]:
    rows = []
    for label in planned:
        if label in failed or label not in results:
            rows.append([label, NONE, NONE, NONE, NONE, failed.get(label, "not run")])
        for result in results.get(label, {}).values():
            record = result.record
            score, seconds = record.scores.get("vstoi"), record.seconds
            whole = sum(float(seconds.get(key) or 0) for key in ("train", "encode", "decode", "score"))
            marks = " not converged" if record.training.get("converged") is False else ""
            shown = [NONE if score is None else _number(score.mean), _number(record.rate_kbps["measured"])]
            rows.append([label, str(record.spec.get("seed")), *shown, f"{whole:.0f}", f"`{record.name}`{marks}"])
    yield from _markdown(["run", "seed", "VSTOI", "kbit/s measured", "seconds", "folder"], rows)
    yield "A run again: `benchmark run --config FOLDER/spec.yaml --force`, in the folder that holds these.\n"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterable[str]:
    yield _line(header)
    yield _line(["---"] * len(header))
    yield from map(_line, rows)
    yield ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _interval(interval: Estimate, signed: bool) -> str:
    mean = _number(interval.mean, signed)
    if math.isnan(interval.low + interval.high) or interval.low == interval.high:
        return mean
    return f"{mean} [{_number(interval.low, signed)}, {_number(interval.high, signed)}]"


def _signed(what: str) -> bool:
    return " − " in what or what.startswith("d")


def _number(value: float, signed: bool = False) -> str:
    if not np.isfinite(value):
        return NONE
    digits = 4 if abs(value) < 1 else 2 if abs(value) < 100 else 1
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def _label(metric: str) -> str:
    kind, _, unit = metric.rpartition("_")
    return f"{kind} rate (kbit/s)" if unit == "kbps" else OWN_LABELS.get(metric) or label_of(metric)
