"""Quality of one decoded signal against its reference by PESQ and ViSQOL, to the bit as their libraries score it.

No function raises for what is in the signals: NaN where a measure is undefined. None changes their level: PESQ aligns
levels itself, ViSQOL brings the decoded signal to the level of the reference and finds speech where that is within
about 16 dB of its peak for 20 ms.
"""

import functools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from types import FunctionType, MethodType
from typing import Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

# visqol sets this where it is imported first; under numba's own choice, GNU OpenMP, a later fork would die
os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")

SAMPLE_RATE = 16_000  # Hz, of PESQ-WB and of ViSQOL's speech mode
AUDIO_RATE = 48_000  # Hz, of ViSQOL's audio mode
PESQ_SAFE_SAMPLES = 20 * SAMPLE_RATE  # 50 utterances: with more of them the library's C code ends the process
PESQ_APART = f"""
import sys, numpy, pesq
print(float(pesq.pesq({SAMPLE_RATE}, *numpy.frombuffer(sys.stdin.buffer.read()).reshape(2, -1), "wb")))
"""
VISQOL_MODEL = "speech mode, polynomial mapping"  # for the record: the lattice mapping scores 1.7 lower on average
VISQOL_AUDIO_MODEL = "audio mode, support vector regression"
KNOWN_VISQOL = ("3.8.0",)  # versions of visqol-python whose parts are known to be replaced by equal ones

Array = NDArray[np.float64]
Mode = Literal["speech", "audio"]


def pesq_wb(reference: ArrayLike, decoded: ArrayLike) -> float:
    """Wideband PESQ (ITU-T P.862.2) of 16 kHz signals, MOS-LQO; NaN where it finds no utterance, or far too many."""
    return score_or_nan(_pesq, reference, decoded, floor=1.0)


def _pesq(reference: Array, decoded: Array) -> float:
    if len(reference) <= PESQ_SAFE_SAMPLES:
        from pesq import pesq

        return pesq(SAMPLE_RATE, reference, decoded, "wb")
    signals = np.stack([reference, decoded]).tobytes()
    apart = [sys.executable, "-P", "-c", PESQ_APART]
    return float(subprocess.run(apart, input=signals, capture_output=True, check=True).stdout)


def visqol_speech(reference: ArrayLike, decoded: ArrayLike) -> float:
    """ViSQOL v3 (Chinen et al., 2020) of 16 kHz signals by VISQOL_MODEL, MOS-LQO. Not safe in several threads."""
    return score_or_nan(_visqol("speech"), reference, decoded, floor=1.0)


def visqol_audio(reference: ArrayLike, decoded: ArrayLike) -> float:
    """ViSQOL v3 (Chinen et al., 2020) of 48 kHz signals by VISQOL_AUDIO_MODEL, MOS-LQO. Not safe in several threads."""
    return score_or_nan(_visqol("audio"), reference, decoded, floor=1.0)


@final
class Visqol:
    """visqol-python's own pipeline with its slowest parts replaced by equal ones, where its version is a known one.

    What depends on the reference alone, its spectrogram and envelope, is kept until another reference comes.
    """

    def __init__(self, mode: Mode) -> None:
        from visqol import VisqolApi

        self.rate = SAMPLE_RATE if mode == "speech" else AUDIO_RATE
        self.api: Any = VisqolApi()
        self.api.create(mode=mode, use_lattice_model=False)  # left out, it depends on which packages are installed
        self.reference: Any = None
        self.kept: dict[str, Any] = {}
        try:
            self.manager = self._accelerated(mode)
        except (ImportError, AttributeError, KeyError, RuntimeError):  # another version, or nowhere to compile
            self.manager = None

    def __call__(self, reference: Array, decoded: Array) -> float:
        """MOS-LQO. Raises what the library raises."""
        if self.manager is None:
            return self.api.measure_from_arrays(reference, decoded, sample_rate=self.rate).moslqo
        from visqol.audio_utils import AudioSignal

        if self.reference is None or not np.array_equal(self.reference.data, reference):
            self.reference, self.kept = AudioSignal(np.array(reference, dtype=np.float64), self.rate), {}
        return self.manager.run_from_signals(self.reference, AudioSignal(decoded, self.rate)).moslqo

    def _accelerated(self, mode: Mode) -> Any:
        """The API's manager, other parts in it. Where the library is not a known one, raises and changes nothing."""
        from visqol import alignment, gammatone, patch_creator, patch_selector, signal_utils
        from visqol.visqol_core import VisqolCore
        from visqol.visqol_manager import VisqolManager

        from .hearing.neurograms import forward_pass

        if version("visqol-python") not in KNOWN_VISQOL:
            raise ImportError("its parts are not known")
        envelope = self._once("envelope", signal_utils.upper_envelope)
        align = with_parts(alignment.globally_align, upper_envelope=envelope)
        matched = with_parts(patch_selector._find_most_optimal_deg_patches_numba, _dp_forward_pass=forward_pass)
        select = with_parts(patch_selector.find_most_optimal_deg_patches, _find_most_optimal_deg_patches_numba=matched)
        similarity = with_parts(VisqolCore.calculate_similarity, find_most_optimal_deg_patches=select)
        run = with_parts(VisqolManager.run_from_signals, globally_align=align)
        filters = functools.cache(gammatone.make_erb_filters)
        build = with_parts(gammatone.GammatoneSpectrogramBuilder.build, make_erb_filters=filters)
        manager = self.api._manager
        builder, core = manager.spect_builder, manager.visqol_core
        replaced: list[tuple[Any, str, Any]] = [(builder, "_build_numba", _gammatone)]
        replaced += [(builder, "build", self._once("spectrogram", MethodType(build, builder)))]
        replaced += [(core, "calculate_similarity", MethodType(similarity, core))]
        replaced += [(manager, "run_from_signals", MethodType(run, manager))]
        if mode == "speech":
            activity = functools.partial(_voice_activity, patch_creator.RmsVad)
            replaced += [(manager.patch_creator, "_get_voice_activity", activity)]
        for owner, name, _ in replaced:
            getattr(owner, name)
        for owner, name, part in replaced:
            setattr(owner, name, part)
        return manager

    def _once(self, name: str, function: Any) -> Any:
        """The function of a signal, computed once for the reference."""

        def kept(signal: Any, *arguments: Any) -> Any:
            if self.reference is None or not (signal is self.reference or signal is self.reference.data):
                return function(signal, *arguments)
            if name not in self.kept:
                self.kept[name] = function(signal, *arguments)
            return self.kept[name]

        return kept


def with_parts(function: FunctionType, **parts: Any) -> FunctionType:
    """A copy of a function that finds other parts under the names it looks up globally. KeyError for any other name.

    The library's own functions and modules stay as they are. No subclass can do this: what takes the time is called by
    functions of its modules, from inside its longest methods.
    """
    for name in parts:
        if name not in function.__code__.co_names:
            raise KeyError(name)
    names = {**function.__globals__, **parts}
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)


def _gammatone(sound: Array, window: Any, coefficients: Array, hop: int, frames: int, bands: int) -> Array:
    """In place of GammatoneSpectrogramBuilder._build_numba; the rows are A0, A11 ... A14, A2, B0, B1, B2, gain."""
    from .hearing.neurograms import gammatone

    a0, a2, gain = coefficients[0], coefficients[5], coefficients[9]
    if a2.any() or (coefficients[6] != 1).any():
        raise NotImplementedError("a gammatone filter with a second zero, or not normalised")
    scales = (gain, 1.0, 1.0, 1.0)
    numerators = np.stack(
        [np.stack([a0 / scale, coefficients[1 + n] / scale], axis=1) for n, scale in enumerate(scales)]
    )
    denominators = np.ascontiguousarray(coefficients[7:9].T)
    sound, taper = (np.require(each, np.float64, ["C", "W"]) for each in (sound, window.hann_window))
    return gammatone(sound, taper, numerators, denominators, hop)


def _voice_activity(detector: Any, signal: Any, start: int, samples: int, length: int) -> list[float]:
    """In place of VadPatchCreator._get_voice_activity; squares of 16-bit samples add up exactly in any order."""
    sound = signal.data[start : start + samples]
    sound = np.clip(sound[: len(sound) // length * length] * 32768, -32768, 32767).astype(np.int16)
    level = np.sqrt(np.mean(sound.reshape(-1, length).astype(np.float64) ** 2, axis=1))
    found = detector()
    present, absent = found.VOICE_ACTIVITY_PRESENT, found.VOICE_ACTIVITY_ABSENT
    found.each_chunk_result = [absent if low else present for low in level < found.RMS_THRESHOLD]
    return found.get_vad_results()


@functools.cache
def _visqol(mode: Mode) -> Visqol:
    return Visqol(mode)


def score_or_nan(
    measure: Callable[[Array, Array], float],
    reference: ArrayLike,
    decoded: ArrayLike,
    floor: float,
) -> float:
    """The measure; its floor where the decoded signal is silent, which must not count as missing; else NaN."""
    signals = [np.asarray(signal, dtype=np.float64) for signal in (reference, decoded)]
    if signals[0].shape != signals[1].shape or not all(np.isfinite(signal).all() for signal in signals):
        return float("nan")
    if not signals[0].any():
        return float("nan")
    try:
        score = float(measure(signals[0], signals[1] if signals[1].any() else signals[0]))
        return score if signals[1].any() or not math.isfinite(score) else floor
    except ImportError:
        raise
    except Exception:  # the libraries raise many kinds where a signal is too short or holds no speech
        return float("nan")
