"""One run from spec to record, and a grid of them.

spec -> train -> model.safetensors -> encode the test set to files -> decode them with a fresh model -> score -> record
"""

import contextlib
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import track as progress_bar

from ...leaderboards import records
from ...leaderboards.plots import rate_score
from ...leaderboards.records import Record
from ...leaderboards.tables import terminal_table
from ..errors import UserError
from ..metrics.scoring.pool import kept_workers
from ..specs.classical import is_classical
from ..specs.contract import require_contract
from ..specs.grid import make_specs
from ..specs.spec import Spec, build_corpus
from ..tracks.choose import signal_rate, track_of
from ..training.model import SPEC, load_model, make_codec, steady, train_model, training_summary
from ..training.module import check_training
from .baselines import run_baseline
from .coders import placed
from .evaluation import evaluate
from .record import make_record
from .wandb import log_results, wandb_logger

RECORD, LOCK = records.RECORD_FILE, ".lock"


def run(quantizer: Any = None, codec: Any = None, *, output_dir: Path | str = "runs", **options: Any) -> Any:
    """The Python form of `benchmark run`: names or classes; `options` as in make_specs, and force, wandb, quiet.

    Returns the record, or a list of them where several were asked for. UserError and DataError say what cannot be.
    """
    force, wandb = options.pop("force", False), options.pop("wandb", None)
    console = Console(quiet=options.pop("quiet", False))
    specs = make_specs(quantizer, codec, options.pop("data", None), **options)
    found = run_grid(specs, Path(output_dir), force, wandb, console)
    return found[0] if len(found) == 1 else found


def run_grid(specs: list[Spec], output_dir: Path, force: bool, wandb: str | None, console: Console) -> list[Record]:
    """Every run that has not finished yet, then one table and where the files are."""
    _writable(output_dir)
    specs = list({spec.hash: spec for spec in specs}.values())
    for spec in specs:
        check_run(spec, console)
    for data in {spec.data_fingerprint: spec.data for spec in specs}.values():
        build_corpus(data).validate()
    found = []
    with kept_workers():
        for number, spec in enumerate(specs, 1):
            console.print(f"[bold]{number}/{len(specs)}[/] {spec.name}", highlight=False)
            found.append(run_one(spec, output_dir / spec.name, force, wandb, console))
    console.print(terminal_table(found))
    if len(found) > 1:
        with contextlib.suppress(ValueError):  # nothing to plot
            rate_score(found, output_dir / "rate.png")
            console.print(f"plot: {output_dir / 'rate.png'}", highlight=False, soft_wrap=True)
    for record in found:
        console.print(f"files: {output_dir / record.name}", highlight=False, soft_wrap=True)
    return found


def check_run(spec: Spec, console: Console | None = None) -> None:
    """Say what cannot be before anything is trained: UserError. Plug-ins from outside must hold the contract."""
    console = console or Console(quiet=True)
    if is_classical(spec.codec.name):
        placed(spec)
        require_contract(spec.quantizer, spec.codec, None, console)
        return
    rate = signal_rate(spec)
    codec = make_codec(spec, rate)
    check_training(codec, spec.training, rate)
    require_contract(spec.quantizer, spec.codec, codec, console)


def run_one(spec: Spec, folder: Path, force: bool, wandb: str | None, console: Console) -> Record:
    """One run in `folder`; a finished one is found, not repeated, an unfinished one goes on where it stopped."""
    finished = folder / RECORD
    if finished.exists() and not force:
        console.print(f"  finished before: {finished} (--force runs it anew)", highlight=False, soft_wrap=True)
        return records.read(finished)
    _writable(folder)
    if is_classical(spec.codec.name):
        with _alone(folder), steady(spec.seed):
            if force:
                _empty(folder)
            records.write_whole(folder / SPEC, spec.to_yaml())
            return run_baseline(spec, folder, wandb, watched_on(console))
    codec = make_codec(spec, signal_rate(spec))
    with _alone(folder), steady(spec.seed):
        track = track_of(spec, watched_on(console))
        if codec.leading != track.leading:
            raise UserError(
                f"{spec.codec.name} codes signals of {codec.leading} bands, {spec.data.name} has {track.leading}"
            )
        if force:  # only now: unusable data have cost nothing
            _empty(folder)
        records.write_whole(folder / SPEC, spec.to_yaml())
        logger = wandb_logger(wandb, folder, spec)
        trained = train_model(spec, track, folder, logger, console)
        codec = trained.codec
        evaluation = evaluate(load_model(folder, spec), codec, track, folder, spec.coder, watched_on(console))
    training = training_summary(trained, spec, folder)
    record = make_record(spec, codec, track, evaluation, training, build_corpus(spec.data).notes())
    log_results(logger, record, folder)
    records.write_items(folder / "items.csv", evaluation.rows)
    records.write(record, finished)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return record


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """UserError where another process is at work on the same run."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as busy:
        raise UserError(f"{folder}: another process is at work on this run; wait for it") from busy
    try:
        yield
    finally:
        lock.release()
        (folder / LOCK).unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink(missing_ok=True)


def watched_on(console: Console) -> Any:
    """A progress bar on this console around what is being worked through."""

    def watched(what: Iterable[Any], description: str) -> Iterable[Any]:
        return progress_bar(what, description=description, console=console, transient=True)

    return watched


def _writable(folder: Path) -> None:
    probe = folder / f".writable-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another --output-dir") from error
