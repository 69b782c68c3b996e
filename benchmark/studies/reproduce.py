"""`benchmark reproduce`: the runs that test a paper's claims, then the report of what they show.

claims file x profile -> labelled runs -> run_one() each, finished ones read -> runs.json -> report (claims/report.py)

A run that fails is reported and does not stop the rest. The report needs records alone: --report-only.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from ...leaderboards import records
from ...leaderboards.claims.judging import Result, Rows
from ...leaderboards.claims.model import ClaimsFile, LabelledRun, Profile, Split, claims_files, find_claims, matching
from ...leaderboards.claims.reading import read_claims
from ...leaderboards.claims.report import write_report
from ...leaderboards.errors import RecordError, nearest
from ...leaderboards.records import Record
from ..errors import UserError
from ..metrics.scoring.pool import kept_workers
from ..runs.record import read_record
from ..runs.run import check_run, run_one, watched_on
from ..runs.train_items import TRAIN_ITEMS, score_on_train
from ..specs.grid import make_specs
from ..specs.recipes import settings_of
from ..specs.spec import Spec
from ..specs.stages import written

RUNS = "runs.json"  # label -> seed -> name of the run's folder


class Reproduction(NamedTuple):
    """What the command line asks for."""

    claims: str | None
    profile: str | None = None
    seed: Sequence[str] | None = None
    only: str | None = None  # patterns of labels, separated by commas
    data: str | None = None
    data_options: Mapping[str, Any] = {}
    output_dir: Path = Path("runs")
    dry_run: bool = False
    report_only: bool = False


class Planned(NamedTuple):
    """A run to be made or found."""

    label: str
    spec: Spec
    on_train: bool


class Plan(NamedTuple):
    """All runs of a profile, and why some cannot be."""

    runs: list[Planned]
    impossible: dict[str, str]


def reproduce(request: Reproduction, console: Console) -> int:
    """Run and report; 0 once the report is written. UserError, DataError: nothing can be done."""
    if request.claims is None:
        list_claims(console)
        return 0
    file = settled(find_claims(request.claims))
    name = request.profile or next(iter(file.profiles))
    if name not in file.profiles:
        raise UserError(
            f"no profile is called {name!r}{nearest(name, [*file.profiles])} There are: {', '.join(file.profiles)}"
        )
    folder = request.output_dir / f"reproduce-{file.path.stem}-{name}"
    failed: dict[str, str] = {}
    if not request.report_only:
        plan = make_plan(file, name, request)
        chosen = _chosen(request.only, plan)
        if request.dry_run:
            _show_plan(plan, chosen, file.profiles[name], request.output_dir, console)
            return 0
        failed = {label: reason for label, reason in plan.impossible.items() if label in chosen}
        with kept_workers():
            failed |= _run_all(plan, chosen, file.profiles[name], request.output_dir, folder, console)
    results = read_results(folder / RUNS, request.output_dir)
    if not results:
        why = [f"{label}: {reason}" for label, reason in failed.items()]
        raise UserError(f"{folder}: no run has finished; {why[0] if why else 'leave --report-only out'}")
    report = write_report(file, name, results, failed, _command(request, name), folder)
    for label, reason in failed.items():
        console.print(f"failed: {label}: {reason}", style="red", highlight=False, markup=False, soft_wrap=True)
    console.print(f"report: {report}", highlight=False, soft_wrap=True)
    return 0


def settled(path: Path) -> ClaimsFile:
    """A claims file whose runs have settings in the form of settings_of(). ClaimsError, UserError: it has faults."""
    file = read_claims(path)
    runs = {
        profile: {
            label: run._replace(settings=settings_of(dict(run.settings), f"{path}: run {label!r}"))
            for label, run in labelled.items()
        }
        for profile, labelled in file.runs.items()
    }
    return replace(file, runs=runs)


def list_claims(console: Console) -> None:
    """The claims files of the package, a line each."""
    for name, path in claims_files().items():
        file = settled(path)
        counted = ", ".join(f"{profile}: {len(runs)} runs" for profile, runs in file.runs.items())
        console.print(f"{name}  {file.paper}  ({len(file.claims)} claims; {counted})", highlight=False, soft_wrap=True)


def make_plan(file: ClaimsFile, profile: str, request: Reproduction) -> Plan:
    """The specs of all labels. UserError, DataError: not one of them can be."""
    runs, impossible, first = [], {}, None
    for label, asked in file.runs[profile].items():
        try:
            specs = specs_of(asked, request)
            for spec in specs:
                if not (request.output_dir / spec.name / records.RECORD_FILE).exists():
                    check_run(spec)
            runs += [Planned(label, spec, asked.on_train) for spec in specs]
        except Exception as error:  # a stranger's plug-in may raise anything
            impossible[label] = " ".join(str(error).split())
            first = first or error
    if first is not None and not runs:
        raise first
    return Plan(runs, impossible)


def specs_of(asked: LabelledRun, request: Reproduction) -> list[Spec]:
    """One run's specs, one a seed. UserError, DataError: why it cannot be."""
    settings, options = asked.settings, dict(asked.settings["options"])
    data, own = settings.get("data"), options.get("data", {})
    if request.data not in (None, data):
        data, own = request.data, {}
    return make_specs(
        settings.get("quantizer"),
        settings.get("codec"),
        data,
        seed=request.seed or settings.get("seed"),
        bitrate=settings.get("bitrate"),
        coder=settings.get("coder"),
        training=options.get("training"),
        ace=options.get("ace"),
        quantizer_options=options.get("quantizer"),
        codec_options=options.get("codec"),
        data_options={**own, **request.data_options},
    )


def read_results(path: Path, output_dir: Path) -> dict[str, dict[Any, Result]]:
    """The finished runs of a profile, from their records."""
    results: dict[str, dict[Any, Result]] = {}
    for label, by_seed in _known(path).items():
        for name in by_seed.values():
            place = output_dir / name
            if not (place / records.RECORD_FILE).exists():
                continue
            record = read_record(place)
            rows: dict[Split, Rows] = {"test": _with_code_length(record, records.read_items(place / "items.csv"))}
            if (place / TRAIN_ITEMS).exists():
                rows["train"] = records.read_items(place / TRAIN_ITEMS)
            results.setdefault(label, {})[record.spec.get("seed")] = Result(record, rows)
    return results


def _with_code_length(record: Record, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with bits_per_frame, of the coded signal's frames."""
    hop = record.spec.get("ace", {}).get("hop") if record.track == "cochlear" else None
    if hop is None:
        return rows
    rate = 16_000 / hop
    return [row | {"bits_per_frame": 1000 * row["payload_kbps"] / rate} for row in rows]


def _run_all(
    plan: Plan, chosen: set[str], profile: Profile, output_dir: Path, folder: Path, console: Console
) -> dict[str, str]:
    """Every run of the plan that was chosen; label -> why it failed."""
    for data in {p.spec.data_fingerprint: p.spec.data for p in plan.runs}.values():
        data.build().validate()
    failed: dict[str, str] = {}
    _make(folder)
    _forget_other_data(folder / RUNS, plan, output_dir)
    watched = watched_on(console)
    for number, (label, spec, on_train) in enumerate(plan.runs, 1):
        place, begin = output_dir / spec.name, time.monotonic()
        finished = place / records.RECORD_FILE
        if label not in chosen and not finished.exists():
            continue
        console.print(f"[bold]{number}/{len(plan.runs)}[/] {label}", highlight=False)
        try:
            record = read_record(place) if finished.exists() else run_one(spec, place, False, None, console)
            _note(folder / RUNS, label, spec)
            if on_train and profile.train_items:
                score_on_train(spec, place, profile.train_items, watched)
            console.print(f"  {_in_short(record)} ({time.monotonic() - begin:.0f} s)", highlight=False)
        except Exception as error:  # whatever it is, the other runs do not hang on it
            failed[label] = f"{type(error).__name__}: {' '.join(str(error).split())}"
            console.print(f"  failed: {failed[label]}", style="red", highlight=False, markup=False, soft_wrap=True)
    return failed


def _in_short(record: Record) -> str:
    score, rate = record.scores.get("vstoi"), record.rate_kbps.get("measured")
    return f"{f'VSTOI {score.mean:.4f} at ' if score else ''}{rate:.2f} kbit/s"


def _show_plan(plan: Plan, chosen: set[str], profile: Profile, output_dir: Path, console: Console) -> None:
    """What would be run, what has been, and the steps that are left; stages that runs share count once."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("run", "seed", "steps to train", "state"):
        table.add_column(column, justify="right" if column.startswith("steps") else "left", overflow="fold")
    total, done, seen = 0, 0, set()
    for label, spec, _ in plan.runs:
        finished = output_dir / spec.name / records.RECORD_FILE
        steps = _steps(spec, seen)
        state = "done" if finished.exists() else "to do" if label in chosen else "left out"
        done += state == "done"
        total += steps if state == "to do" else 0
        table.add_row(label, str(spec.seed), f"{steps:,}" if state == "to do" else "", state)
    for label, reason in plan.impossible.items():
        table.add_row(label, "", "", f"cannot run: {reason}")
    console.print(table)
    every = len(plan.runs) + len(plan.impossible)
    console.print(f"{done} of {every} runs are done; {total:,} steps to train", highlight=False)
    console.print(f"the whole profile: {profile.cost}", highlight=False)


def _steps(spec: Spec, seen: set[str]) -> int:
    """The steps of a training without those of stages that an earlier run has in common with it."""
    if spec.training.stages is None:
        return spec.training.steps if spec.trained else 0
    steps, before = 0, [spec.codec.name, spec.data_fingerprint, str(spec.seed)]
    shared = True
    for stage in spec.training.stages:
        before.append(written(stage))
        shared = shared and not stage.quantized
        steps += 0 if shared and "|".join(before) in seen else stage.steps
        if shared:
            seen.add("|".join(before))
    return steps


def _chosen(only: str | None, plan: Plan) -> set[str]:
    labels = list(dict.fromkeys([*(planned.label for planned in plan.runs), *plan.impossible]))
    if only is None:
        return set(labels)
    patterns = [pattern.strip() for pattern in only.split(",")]
    for pattern in patterns:
        if not matching([pattern], labels):
            raise UserError(f"--only {pattern}: no run of this profile is labelled so{nearest(pattern, labels)}")
    return set(matching(patterns, labels))


def _command(request: Reproduction, profile: str) -> str:
    """The command line that makes this report."""
    words = ["benchmark reproduce", str(request.claims), f"--profile {profile}"]
    words += [f"--seed {' '.join(map(str, request.seed))}"] if request.seed else []
    words += [f"--data {request.data}"] if request.data else []
    words += [f"--data.{option} {value}" for option, value in request.data_options.items()]
    words += [f"--output-dir {request.output_dir}"] if request.output_dir != Path("runs") else []
    return " ".join(words)


def _known(path: Path) -> dict[str, dict[str, str]]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())}); delete it and run again") from error


def _note(path: Path, label: str, spec: Spec) -> None:
    known = _known(path)
    known.setdefault(label, {})[str(spec.seed)] = spec.name
    records.write_whole(path, json.dumps(known, indent=1) + "\n")


def _forget_other_data(path: Path, plan: Plan, output_dir: Path) -> None:
    """Leave runs out of the report that were made on other data than this plan's."""
    prints = {planned.spec.data_fingerprint for planned in plan.runs}
    kept: dict[str, dict[str, str]] = {}
    for label, by_seed in _known(path).items():
        for seed, name in by_seed.items():
            place = output_dir / name / records.RECORD_FILE
            if place.exists() and records.read(place).spec.get("data_fingerprint") in prints:
                kept.setdefault(label, {})[seed] = name
    records.write_whole(path, json.dumps(kept, indent=1) + "\n")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{folder}: cannot be made ({error.strerror}); choose another --output-dir") from error
