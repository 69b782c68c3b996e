"""One run from spec to record, and a grid of them.

spec -> train -> model.safetensors -> encode the test set to files -> decode them with a fresh model -> score -> record
"""

import contextlib
import logging
import shutil
import uuid
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import track as progress_bar
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..codecs.base import Codec
from ..leaderboards import records
from ..leaderboards.plots import rate_score, training_curve
from ..leaderboards.records import Record
from ..leaderboards.tables import terminal_table
from ..quantizers.base import Quantizer
from ..quantizers.identity import Identity
from .baselines import check_baseline, is_classical, run_baseline
from .calibration import RateSearch, codec_for, expected_rate, options_for, read_search, trim
from .domains import signal_rate, track_of
from .errors import UserError
from .evaluation import evaluate
from .grid import make_specs
from .plugins import lookup
from .reporting import make_record
from .spec import Choice, Spec, build_codec, build_corpus, build_quantizer
from .staged import Trained, ascended, train_as_asked
from .stages import parse_stages
from .tracking import log_results, wandb_logger
from .tracks import Track
from .training import check_training, converged

STAGES = "stages"  # beside the runs: what several of them can go on from
MODEL, SPEC, RECORD = "model.safetensors", "spec.yaml", records.RECORD_FILE
LOCK = ".lock"
TABLE_SECONDS = 1.8  # of each training crop from which the coding tables are fitted
TABLE_CROPS, AT_ONCE = 64, 16


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
    for spec in specs:  # what cannot be is said before anything is trained
        if is_classical(spec.codec.name):
            check_baseline(spec)
            continue
        rate = signal_rate(spec)
        check_training(make_codec(spec, rate), spec.training, rate)
    for data in {spec.data_fingerprint: spec.data for spec in specs}.values():
        build_corpus(data).validate()
    found = []
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
        trained = _trained(spec, track, folder, logger, console)
        codec = trained.codec
        evaluation = evaluate(load_model(folder, spec), codec, track, folder, spec.coder, watched_on(console))
    training = _training_summary(trained, spec, folder)
    if spec.bitrate is not None:
        training["rate_search"] = [trial._asdict() for trial in read_search(folder)]
    record = make_record(spec, codec, track, evaluation, training, build_corpus(spec.data).notes())
    log_results(logger, record, folder)
    records.write_items(folder / "items.csv", evaluation.rows)
    records.write(record, finished)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return record


def make_codec(spec: Spec, rate: float, bits: float | None = None) -> Codec:
    """A fresh codec of a spec for signals of `rate` samples/s, with its quantizers.

    `bits` per position take the place of those of the spec's bitrate.

    UserError: the parts do not fit, the bitrate cannot be met.
    """
    bits = asked_bits(spec, rate) if bits is None else bits

    def make(channels: int, share: float) -> Quantizer:
        choice = spec.quantizer
        if bits is not None:
            choice = Choice(choice.name, options_for(choice, channels, bits * share))
        return build_quantizer(choice, channels)

    torch.manual_seed(spec.seed)
    return build_codec(codec_for(spec.codec, bits), make)


def asked_bits(spec: Spec, rate: float) -> float | None:
    """Bits per latent position that a spec's bitrate comes to, headers left out of account."""
    if spec.bitrate is None:
        return None
    codec = lookup("codecs", spec.codec.name)[0]
    return spec.bitrate * 1000 * getattr(codec, "stride", 1) / rate / getattr(codec, "positions_per_stride", 1)


def load_model(folder: Path, spec: Spec | None = None) -> Codec:
    """The trained codec of a run's folder, in eval mode. UserError where there is none."""
    try:
        spec = spec or Spec.from_yaml((folder / SPEC).read_text(encoding="utf-8"))
        state = load_file(folder / MODEL)
        trials = read_search(folder)
        codec = make_codec(spec, signal_rate(spec), trials[-1].bits if trials else None)
        codec.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: a state that does not fit
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{folder}: holds no model of this spec ({reason}); run it anew with --force") from error
    return codec.eval()


def _trained(spec: Spec, track: Track, folder: Path, logger: Any, console: Console) -> Trained:
    """Train, as often as the asked rate takes, fit the coding tables on training codes, save."""
    rate = signal_rate(spec)
    first = asked_bits(spec, rate)
    if spec.bitrate is None or first is None:
        codec = make_codec(spec, rate)
        place, bar = folder / "checkpoints", not console.quiet
        trained = train_as_asked(codec, track, spec.training, spec.seed, place, logger, bar, _shared(spec, folder))
        _fit_tables(spec, codec, track)
    else:
        steered = any(quantizer.rate_is_learned for quantizer in make_codec(spec, rate).quantizers)
        search = RateSearch(folder, spec.bitrate, first, spec.training, lambda bits: _configured(spec, bits), steered)
        trained = _searched(spec, search, track, folder, logger, console)
    draft = folder / f".{MODEL}"
    save_file({name: tensor.contiguous() for name, tensor in trained.codec.state_dict().items()}, draft)
    draft.replace(folder / MODEL)
    return trained


def _shared(spec: Spec, folder: Path, bits: float | None = None) -> tuple[Path, Any]:
    """Where the runs of a folder share stages of training, and all of a spec that those before quantizers follow from.

    The codec's constructor draws its weights before it makes quantizers, or the quantizer would be part of it.
    """
    content = replace(spec, codec=codec_for(spec.codec, bits)).recorded()
    parts = {part: content[part] for part in ("codec", "data", "data_fingerprint", "ace", "seed", "version")}
    parts["plugins"] = [plugin for plugin in spec.plugins if plugin[0] in (spec.codec.name, spec.data.name)]
    training = {option: value for option, value in content["training"].items() if option != "stages"}
    return folder.parent / STAGES, [parts, training]


def _searched(spec: Spec, search: RateSearch, track: Track, folder: Path, logger: Any, console: Console) -> Trained:
    """The last of all trainings that the search asks for."""
    last: Trained | None = None
    for number, bits, training in search.trainings():
        in_full = training is spec.training
        codec = make_codec(spec, signal_rate(spec), bits)
        place = folder / "checkpoints" / str(number)
        logged, bar = logger if in_full else False, not console.quiet
        shared = _shared(spec, folder, bits)
        last = train_as_asked(codec, track, training, spec.seed, place, logged, bar, shared)
        kbps, widened = trim(codec, search.wanted, partial(_fitted_rate, spec, codec, track))
        what = "training" if in_full else "pilot"
        console.print(f"  {what}: {bits:.2f} bit a position gave {kbps:.2f} of {search.wanted:g} kbit/s")
        search.note(bits, training, kbps, last.spent, widened)
    assert last is not None
    return last._replace(spent=sum(trial.seconds for trial in search.trials))


def _configured(spec: Spec, bits: float) -> list[Any] | None:
    """What a spec's codec and quantizers are built with at so many bits per position; None where one refuses."""
    codec = codec_for(spec.codec, bits)
    asked: list[Any] = [codec.options]

    def make(channels: int, share: float) -> Quantizer:
        asked.append([channels, options_for(spec.quantizer, channels, bits * share)])
        return Identity(channels)

    try:
        build_codec(codec, make)
    except UserError:
        return None
    return asked


def _fitted_rate(spec: Spec, codec: Codec, track: Track) -> float:
    _fit_tables(spec, codec, track)
    return expected_rate(codec, track, spec.coder)


def _fit_tables(spec: Spec, codec: Codec, track: Track) -> None:
    """The coding tables, on training codes."""
    length = min(
        round(TABLE_SECONDS * track.signal_rate), track.typical_length
    )  # padding would favour codes of silence
    generator = np.random.default_rng([spec.seed, spec.training.steps + 2])
    crops = track.training_batch(TABLE_CROPS, length, generator)
    codec.fit_tables(torch.cat([codec.encode(some) for some in crops.split(AT_ONCE)]))


def _training_summary(trained: Trained, spec: Spec, folder: Path) -> dict[str, Any]:
    steps = [step for step, _, _ in trained.curve]
    losses = [loss for _, loss, _ in trained.curve]
    if steps:
        training_curve(steps, losses, folder / "training.png")
    curve = {"step": steps, "validation_loss": losses, "quantized": [flag for _, _, flag in trained.curve]}
    summary = {"steps": spec.training.steps, "seconds": trained.spent, "curve": curve}
    if spec.training.stages is not None:
        steps = sum(stage.steps for stage in parse_stages(spec.training.stages))
        return summary | {"converged": ascended(trained.stages), "steps": steps, "stages": trained.stages}
    return summary | {"converged": converged(trained.curve, spec.training, len(trained.codec.phases))}


@contextlib.contextmanager
def steady(seed: int) -> Iterator[None]:
    """One thread (tiny matrices: two are slower), one seed, and Lightning's advice on other products left out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*num_workers.*")
        try:
            yield
        finally:
            torch.set_num_threads(threads)


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
