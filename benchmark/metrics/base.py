"""The metrics: each is declared once, here or by another package, and everything else follows from the declaration.

    metric -> the score of every item of its tracks -> record, items.csv -> table; `benchmark ls metrics`; torchmetrics

A function is named "module:function" and imported where it is used, so that nothing here needs torch. Another package
declares a metric under the entry point `codecbench.metrics`, by the metric's name:

    [project.entry-points."codecbench.metrics"]
    peak_error = "their_module:PEAK_ERROR"  # a Metric
"""

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

RESAMPLER = "soxr HQ"  # for the record: what brings audio to the sample rate of a metric
PACKAGE = __name__.split(".", 1)[0]
GROUP = f"{PACKAGE}.metrics"  # of entry points
_SOUNDS = ("reference", "decoded", "rate")
SIGNALS = {  # of an item, by track: what the parameters of a function may be called
    "cochlear": (*_SOUNDS, "clean", "pattern", "decoded_pattern"),
    "speech": _SOUNDS,
    "audio": _SOUNDS,
    "image": ("reference", "decoded"),
    "vector": ("reference", "decoded"),
}
NAME, TAKEN = r"[a-z][a-z0-9_]*(?<!_kbps)", ("item", "seconds", "bytes")  # what else items.csv has

Scores = dict[str, float]
Pending = Callable[[], Scores]  # scores on their way
Submit = Callable[[Sequence[str], ArrayLike, ArrayLike], "Future[Scores]"]  # metrics, reference, decoded
Function = str | Callable[..., Any]  # "module:function", or the function


class Metric(NamedTuple):
    """A score of one item, and the function that gives it.

    The function is handed the signals that its parameters name. Sounds are float64 "1 N": `reference` and `decoded`, at
    `sample_rate`, or at any rate where it also takes that `rate` in Hz; on the cochlear track they are the vocoded
    uncoded and decoded patterns, beside `clean`, `pattern` and `decoded_pattern` "22 T". Images are "1 3 H W", vectors
    "1 C N". What it returns is a score, a number or a tensor of one, NaN where undefined; or several by their names, as
    a dictionary or a NamedTuple: then all these metrics name the one function, which is called once.
    """

    name: str  # in records and options
    unit: str  # empty: a dimensionless number
    higher_is_better: bool
    sample_rate: int | None  # Hz of the audio it is handed; None: any rate, or no audio at all
    title: str  # in lists
    function: Function
    tracks: tuple[str, ...] = ()  # whose items it scores
    columns: tuple[str, ...] = ()  # tracks whose table shows it; the first one declared sorts the table
    label: str = ""  # in tables and pictures; empty: the name in capitals
    class_name: str = ""  # in modules.py; empty: the name in CamelCase
    apart: bool = False  # scored in a process of its own, of two NumPy signals [N]: what takes long or may crash
    offered: Function | None = None  # whether it can be computed here; None: always


_STOI, _HEARD = ".intelligibility:stoi_pair", ".scoring.patterns:intelligibility"
_BANDS = ".scoring.patterns:bands_stimulated"
_SPEECH, _SOUND, _HEARING = ("speech",), ("speech", "audio"), ("speech", "cochlear")
_METRICS = (
    Metric("vstoi", "", True, 16_000, "VSTOI", _HEARD, _HEARING, ("cochlear",), class_name="VSTOI"),
    Metric("vstoi_uncoded", "", True, 16_000, "VSTOI of the uncoded pattern", _HEARD, _HEARING),
    Metric("dvstoi", "", True, 16_000, "VSTOI minus uncoded", _HEARD, _HEARING, ("cochlear",), "dVSTOI"),
    Metric("vestoi", "", True, 16_000, "VESTOI", _HEARD, ("cochlear",)),
    Metric("stoi", "", True, 16_000, "STOI", _STOI, _HEARING, class_name="STOI"),
    Metric("estoi", "", True, 16_000, "ESTOI", _STOI, _HEARING, _HEARING, class_name="ESTOI"),
    Metric("pesq_wb", "MOS-LQO", True, 16_000, "PESQ-WB", ".quality:pesq_wb", _HEARING, _SPEECH,
           class_name="PESQ", apart=True),
    Metric("visqol", "MOS-LQO", True, 16_000, "ViSQOL", ".quality:visqol_speech", _HEARING,
           label="ViSQOL", class_name="ViSQOL", apart=True),
    Metric("visqol_audio", "MOS-LQO", True, 48_000, "ViSQOL, audio mode", ".quality:visqol_audio", ("audio",),
           label="ViSQOL-AUDIO", class_name="ViSQOLAudio", apart=True),
    Metric("two_f", "MMS", True, 48_000, "2f-model", ".twof:two_f_model", _SOUND, label="2f", class_name="TwoFModel"),
    Metric("nomad", "", False, 16_000, "NOMAD", ".nomad:nomad", _SPEECH, class_name="NOMAD", offered=".nomad:offered"),
    Metric("nmr", "dB", False, None, "Noise-to-mask ratio", ".noise_to_mask:noise_to_mask_ratio", _SOUND, ("audio",),
           class_name="NoiseToMaskRatio"),
    Metric("snr", "dB", True, None, "SNR", ".waveform:snr", _SOUND, ("audio",), class_name="SNR"),
    Metric("si_sdr", "dB", True, None, "SI-SDR", ".waveform:si_sdr", _SOUND, _SPEECH, class_name="SISDR"),
    Metric("segmental_snr", "dB", True, 16_000, "Segmental SNR", ".waveform:segmental_snr", _SPEECH,
           class_name="SegmentalSNR"),
    Metric("peak_snr", "dB", True, None, "Peak SNR of a waveform", ".waveform:peak_snr", _SOUND, class_name="PeakSNR"),
    Metric("weighted_snr", "dB", True, 16_000, "Perceptually weighted SNR", ".weighted_snr:weighted_snr", _SPEECH,
           class_name="WeightedSNR"),
    Metric("log_spectral_distance", "dB", False, 16_000, "Log-spectral distance", ".waveform:log_spectral_distance",
           _SPEECH),
    Metric("mel_distance", "", False, 16_000, "Mel distance", ".waveform:mel_distance", _SPEECH),
    Metric("mel_cepstral_distortion", "dB", False, 16_000, "Mel-cepstral distortion",
           ".waveform:mel_cepstral_distortion"),
    Metric("band_selection_error", "", False, None, "Band selection error", ".scoring.patterns:band_selection_error",
           ("cochlear",)),
    Metric("pattern_rmse", "", False, None, "Pattern RMSE", ".scoring.patterns:pattern_rmse", ("cochlear",)),
    Metric("active_bands", "bands", False, None, "Stimulated bands per frame", _BANDS, ("cochlear",)),
    Metric("active_bands_uncoded", "bands", False, None, "Stimulated bands per frame, uncoded", _BANDS, ("cochlear",)),
    Metric("ssim", "", True, None, "SSIM", ".image:ssim", ("image",), ("image",), class_name="SSIM"),
    Metric("psnr", "dB", True, None, "Peak SNR of an image", ".image:psnr", ("image",), ("image",), class_name="PSNR"),
    Metric("mse", "", False, None, "Mean squared error of a vector's numbers", ".vector:mse", ("vector",), ("vector",),
           class_name="MSE"),
)  # fmt: skip
METRICS = {metric.name: metric for metric in _METRICS}  # built in


@cache
def declared() -> dict[str, Metric]:
    """Every metric by its name, those of other packages last; one that cannot be used costs one line on stderr."""
    found, origins = dict(METRICS), dict.fromkeys(METRICS, PACKAGE)
    for point in entry_points(group=GROUP):
        package = point.dist.name if point.dist else point.value
        if first := origins.get(point.name):
            _say(f"the metric {point.name!r} of {package} is left out: {first} has one of that name")
            continue
        try:
            found[point.name], origins[point.name] = _loaded(point), package
        except Exception as error:  # a stranger's package may raise anything, and must not hide the others
            reason = " ".join(f"{package}: {type(error).__name__}: {error}".split())
            _say(f"the metric {point.name!r} is left out, it cannot be loaded: {reason}")
    return found


def installed(name: str) -> Metric:
    """One metric of another package, without loading the others. LookupError: there is none."""
    for point in entry_points(group=GROUP, name=name):
        return _loaded(point)
    raise LookupError(f"no installed package declares the metric {name!r}")


def metrics_of(track: str) -> list[Metric]:
    """The metrics that score the items of a track and can be computed here."""
    found = (metric for metric in declared().values() if track in metric.tracks)
    return [metric for metric in found if metric.offered is None or load(metric.offered)()]


def table_of(track: str) -> dict[str, Any]:
    """What a record says of its track's table: the metrics that are its columns, labels that are not the name."""
    found = [metric for metric in declared().values() if track in metric.tracks]
    columns = [metric.name for metric in found if track in metric.columns]
    return {"columns": columns, "labels": {metric.name: metric.label for metric in found if metric.label}}


def load(function: Function) -> Callable[..., Any]:
    """A function, imported where it is named; a module that begins with a dot is one of this folder."""
    if callable(function):
        return function
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module, __package__), name)


def by_name(given: Any, names: Iterable[str]) -> dict[str, Any]:
    """What a function returned, score by score. LookupError: not these scores, but others."""
    names = list(names)
    if isinstance(given, tuple):
        given = given._asdict()  # type: ignore[attr-defined]
    scores = dict(given) if isinstance(given, Mapping) else dict.fromkeys(names[:1], given)
    if scores.keys() != set(names):
        raise LookupError(f"scores {', '.join(scores)} were given where {', '.join(names)} are declared")
    return scores


def check(metric: Metric) -> None:
    """TypeError, ValueError or what importing raises: the declaration cannot be used."""
    if not re.fullmatch(NAME, metric.name) or metric.name in TAKEN:
        raise ValueError(f"{metric.name!r} cannot be a metric's name")
    if unknown := {*metric.tracks, *metric.columns} - SIGNALS.keys():
        raise ValueError(f"no track {unknown.pop()!r}; there are: {', '.join(SIGNALS)}")
    parameters = inspect.signature(load(metric.function)).parameters.values()
    needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    for track in metric.tracks:
        if lacking := [name for name in needed if name not in SIGNALS[track]]:
            raise TypeError(f"its function takes {lacking[0]!r}; the {track} track has {', '.join(SIGNALS[track])}")


def _loaded(point: EntryPoint) -> Metric:
    metric = point.load()
    if not isinstance(metric, Metric):
        raise TypeError(f"{point.value} is no Metric")
    if metric.name != point.name:
        raise ValueError(f"{point.value} is called {metric.name!r}")
    check(metric)
    return metric


def _say(line: str) -> None:
    print(f"benchmark: {line}", file=sys.stderr)
