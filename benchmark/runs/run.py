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

from ...codecs.base import Codec
from ...leaderboards import records
from ...leaderboards.plots import rate_score
from ...leaderboards.records import Record
from ...leaderboards.tables import terminal_table
from ..errors import UserError
from ..metrics.scoring.pool import kept_workers
from ..specs.contract import require_contract
from ..specs.grid import make_specs
from ..specs.spec import Spec
from ..tracks.base import Track
from ..tracks.choose import signal_rate, track_of
from ..training.model import SPEC, load_model, make_codec, steady, train_model, training_summary
from ..training.module import check_training
from .coders import ClassicalCoder, CodedRun, TrainedCoder
from .evaluation import Evaluation, evaluate
from .record import ITEMS, make_record, rates_of, read_record
from .wandb import log_results, wandb_logger

RECORD, LOCK = records.RECORD_FILE, ".lock"


def run(quantizer: Any = None, codec: Any = None, *, output_dir: Path | str = "runs", **options: Any) -> Record:
    """The Python form of `benchmark run` for one combination; see run_all(). UserError: there are several."""
    (record,) = _run(quantizer, codec, output_dir, options, only=True)
    return record


def run_all(
    quantizer: Any = None, codec: Any = None, *, output_dir: Path | str = "runs", **options: Any
) -> list[Record]:
    """The Python form of `benchmark run`: names or classes; `options` as in make_specs, and force, wandb, quiet.

    Returns the record of every combination. UserError and DataError say what cannot be.
    """
    return _run(quantizer, codec, output_dir, options, only=False)


def _run(quantizer: Any, codec: Any, output_dir: Path | str, options: dict[str, Any], only: bool) -> list[Record]:
    force, wandb = options.pop("force", False), options.pop("wandb", None)
    console = Console(quiet=options.pop("quiet", False))
    specs = make_specs(quantizer, codec, options.pop("data", None), **options)
    if only and len(specs) > 1:
        raise UserError(f"run() makes one run, not {len(specs)}; call run_all() for several")
    return run_grid(specs, Path(output_dir), force, wandb, console)


def run_grid(specs: list[Spec], output_dir: Path, force: bool, wandb: str | None, console: Console) -> list[Record]:
    """Every run that has not finished yet, then one table and where the files are."""
    _writable(output_dir)
    specs = list({spec.hash: spec for spec in specs}.values())
    for spec in specs:
        check_run(spec, console)
    for data in {spec.data_fingerprint: spec.data for spec in specs}.values():
        data.build().validate()
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
    if not spec.trained:
        ClassicalCoder(spec)
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
        return read_record(folder)
    _writable(folder)
    with _alone(folder), steady(spec.seed):
        track = track_of(spec, watched_on(console))
        codec = _codec_for(spec, track) if spec.trained else None
        if force:  # only now: unusable data have cost nothing
            _empty(folder)
        records.write_whole(folder / SPEC, spec.to_yaml())
        logger = wandb_logger(wandb, folder, spec)
        training: dict[str, Any] = {}
        if codec is None:
            run = CodedRun(track, ClassicalCoder(spec), ClassicalCoder(spec))
        else:
            trained = train_model(spec, codec, track, folder, logger, console)
            codecs = trained.codec, load_model(folder, spec)
            run = CodedRun(track, *(TrainedCoder(spec, each, track.front_end) for each in codecs))
            training = training_summary(trained, spec, folder)
        evaluation = evaluate(run, track.scorer, folder, watched_on(console))
    record = _record(spec, run, evaluation, training)
    log_results(logger, record, folder)
    records.write_items(folder / ITEMS, evaluation.rows)
    records.write(record, finished)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return record


def _record(spec: Spec, run: CodedRun, evaluation: Evaluation, training: dict[str, Any]) -> Record:
    """Everything that a leaderboard may show of a run."""
    seconds, notes = evaluation.seconds, spec.data.build().notes()
    described, rates = run.encoder.described(run.track, run.codes), rates_of(spec, evaluation)
    described["complexity"]["realtime_factor"] = (seconds["encode"] + seconds["decode"]) / seconds["audio"]
    described["seconds"] = {"train": training.pop("seconds", 0.0), **seconds}
    if isinstance(run.encoder, ClassicalCoder):
        rates, notes = rates | {"coder": None}, [*run.encoder.codec.notes, *notes]
    name, scorer = spec.name, run.track.scorer
    return make_record(
        spec.recorded(), spec.hash, name, scorer, evaluation, rates, notes, training=training, **described
    )


def _codec_for(spec: Spec, track: Track) -> Codec:
    """The codec that is to be trained, once all that its training needs is there. UserError: data of no use."""
    codec = make_codec(spec, track.signal_rate)
    if codec.leading != track.leading:
        raise UserError(
            f"{spec.codec.name} codes signals of {codec.leading} bands, {spec.data.name} has {track.leading}"
        )
    track.prepare()
    return codec


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
