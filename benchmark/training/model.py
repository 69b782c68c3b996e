"""The model of a run: built from its spec, trained at the rate that was asked for, kept in its folder, loaded again."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ...codecs.base import Codec
from ...leaderboards.records import write_whole
from ...quantizers.base import Quantizer
from ...quantizers.identity import Identity
from ..errors import UserError
from ..specs.spec import MODEL, SPEC, Spec
from ..tracks.base import Track
from ..tracks.choose import signal_rate
from ..tracks.pictures import training_curve
from .job import Job
from .module import converged
from .rate_search import RateSearch, codec_for, expected_rate, options_for, read_search, trim
from .staged import Trained, ascended, train_as_asked

STAGES = "stages"  # beside the runs: what several of them can go on from
TABLE_SECONDS = 1.8  # of each training crop from which the coding tables are fitted
TABLE_CROPS, AT_ONCE = 64, 16


def make_codec(spec: Spec, rate: float, bits: float | None = None) -> Codec:
    """A fresh codec of a spec for signals of `rate` samples/s, with its quantizers.

    `bits` per position take the place of those of the spec's bitrate.

    UserError: the parts do not fit, the bitrate cannot be met.
    """
    bits = asked_bits(spec, rate) if bits is None else bits

    def make(channels: int, share: float) -> Quantizer:
        if bits is None:
            return spec.quantizer.build(channels)
        return spec.quantizer.having(options_for(spec.quantizer, channels, bits * share)).build(channels)

    torch.manual_seed(spec.seed)
    return codec_for(spec.codec, bits).build(make)


def asked_bits(spec: Spec, rate: float) -> float | None:
    """Bits per latent position that a spec's bitrate comes to, headers left out of account."""
    if spec.bitrate is None:
        return None
    strides = spec.codec.declared("stride", 1) / spec.codec.declared("positions_per_stride", 1)
    return spec.bitrate * 1000 * strides / rate


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


def train_model(spec: Spec, codec: Codec, track: Track, folder: Path, logger: Any, console: Console) -> Trained:
    """Train a fresh codec, as often as the asked rate takes, fit the coding tables on training codes, save."""
    rate = signal_rate(spec)
    first = asked_bits(spec, rate)
    if spec.bitrate is None or first is None:
        job = Job(track, spec.training, spec.seed, folder / "checkpoints", logger, bar=not console.quiet)
        trained = train_as_asked(codec, job, shared_stages(spec, folder.parent / STAGES))
        _fit_tables(spec, codec, track)
    else:
        steered = any(quantizer.rate_is_learned for quantizer in codec.quantizers)
        search = RateSearch(folder, spec.bitrate, first, spec.training, lambda bits: _configured(spec, bits), steered)
        trained = _searched(spec, search, track, folder, logger, console)
    write_whole(folder / MODEL, save({name: value.contiguous() for name, value in trained.codec.state_dict().items()}))
    return trained


def training_summary(trained: Trained, spec: Spec, folder: Path) -> dict[str, Any]:
    """What a record keeps of a training, whose curve is drawn in the run's folder."""
    steps = [step for step, _, _ in trained.curve]
    losses = [loss for _, loss, _ in trained.curve]
    if steps:
        training_curve(steps, losses, folder / "training.png")
    curve = {"step": steps, "validation_loss": losses, "quantized": [flag for _, _, flag in trained.curve]}
    summary = {"steps": spec.training.steps, "seconds": trained.spent, "curve": curve}
    if spec.training.stages is not None:
        made = sum(stage.steps for stage in spec.training.stages)
        summary |= {"converged": ascended(trained.stages), "steps": made, "stages": trained.stages}
    else:
        summary["converged"] = converged(trained.curve, spec.training, len(trained.codec.phases))
    if spec.bitrate is not None:
        summary["rate_search"] = [trial._asdict() for trial in read_search(folder)]
    return summary


def shared_stages(spec: Spec, folder: Path, bits: float | None = None) -> tuple[Path, Any]:
    """`folder`, and all of a spec that stages before quantizers follow from; initial weights are for the training."""
    content = replace(spec, codec=codec_for(spec.codec, bits)).recorded()
    parts = {part: content[part] for part in ("codec", "data", "data_fingerprint", "ace", "seed", "version")}
    parts["plugins"] = [plugin for plugin in spec.plugins if plugin[0] in (spec.codec.name, spec.data.name)]
    training = {option: value for option, value in content["training"].items() if option != "stages"}
    return folder, [parts, training]


def _searched(spec: Spec, search: RateSearch, track: Track, folder: Path, logger: Any, console: Console) -> Trained:
    """The last of all trainings that the search asks for."""
    last: Trained | None = None
    for number, bits, training in search.trainings():
        in_full = training is spec.training
        codec = make_codec(spec, signal_rate(spec), bits)
        place, logged = folder / "checkpoints" / str(number), logger if in_full else False
        job = Job(track, training, spec.seed, place, logged, bar=not console.quiet)
        last = train_as_asked(codec, job, shared_stages(spec, folder.parent / STAGES, bits))
        kbps, widened = trim(codec, search.wanted, partial(_fitted_rate, spec, codec, track))
        what = "training" if in_full else "pilot"
        console.print(f"  {what}: {bits:.2f} bit a position gave {kbps:.2f} of {search.wanted:g} kbit/s")
        search.note(bits, training, kbps, last.spent, widened)
    assert last is not None
    return last._replace(spent=sum(trial.seconds for trial in search.trials))


def _configured(spec: Spec, bits: float) -> list[Any] | None:
    """What a spec's codec and quantizers are built with at so many bits per position; None where one refuses."""
    codec = codec_for(spec.codec, bits)
    parts: list[Any] = [codec.options]

    def make(channels: int, share: float) -> Quantizer:
        parts.append([channels, options_for(spec.quantizer, channels, bits * share)])
        return Identity(channels)

    try:
        codec.build(make)
    except UserError:
        return None
    return parts


def _fitted_rate(spec: Spec, codec: Codec, track: Track) -> float:
    _fit_tables(spec, codec, track)
    return expected_rate(codec, track, spec.coder)


def _fit_tables(spec: Spec, codec: Codec, track: Track) -> None:
    """The coding tables, on training codes."""
    length = min(round(TABLE_SECONDS * track.signal_rate), track.typical_length)  # padding would favour silence
    generator = np.random.default_rng([spec.seed, spec.training.steps + 2])
    crops = track.training_batch(TABLE_CROPS, length, generator)
    codec.fit_tables(torch.cat([codec.encode(some) for some in crops.split(AT_ONCE)]))


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
