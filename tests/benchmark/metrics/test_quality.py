"""PESQ and ViSQOL equal their libraries to the bit, whatever of them is replaced, and are NaN where undefined."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from codecbench.benchmark.metrics import quality
from codecbench.benchmark.metrics.hearing.neurograms import forward_pass, gammatone
from codecbench.benchmark.metrics.quality import (
    AUDIO_RATE,
    SAMPLE_RATE,
    VISQOL_AUDIO_MODEL,
    VISQOL_MODEL,
    Visqol,
    pesq_wb,
    visqol_audio,
    visqol_speech,
    with_parts,
)
from codecbench.datamodules.demo import Demo


def noisy(signal, snr_db=5.0):
    noise = np.random.default_rng(0).standard_normal(len(signal))
    return signal + noise * signal.std() * 10 ** (-snr_db / 20)


@pytest.fixture(scope="module")
def demo():
    """One synthetic utterance."""
    corpus = Demo()
    return corpus.load(corpus.items("test")[0]).astype(np.float64)[: 3 * SAMPLE_RATE]


@pytest.fixture(scope="module")
def speech(librispeech_root):
    """Three excerpts of 2.5 s of three speakers, and one of 6 s."""
    files = sorted((librispeech_root / "train-clean-100").glob("*/*/*.flac"))[:80:20]
    lengths = (40_000, 40_000, 40_000, 96_000)
    return [soundfile.read(file, start=SAMPLE_RATE, frames=n)[0] for file, n in zip(files, lengths, strict=True)]


def library(mode, reference, decoded):
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode=mode, use_lattice_model=False)
    rate = SAMPLE_RATE if mode == "speech" else AUDIO_RATE
    return api.measure_from_arrays(reference, decoded, rate).moslqo


def distortions(signal):
    """Noise, coarse steps, an early and a late copy, a lost stretch, one lost at the end, and nothing at all."""
    lost, ended = signal.copy(), signal.copy()
    lost[10_000:20_000], ended[-12_000:] = 0, 0
    return [noisy(signal), np.round(signal * 64) / 64, np.roll(signal, -53), np.roll(signal, 700), lost, ended, signal]


# -- PESQ -------------------------------------------------------------------------------------------------------------


def test_pesq_equals_the_library(speech):
    from pesq import pesq

    for signal in speech:
        assert pesq_wb(signal, noisy(signal)) == pesq(SAMPLE_RATE, signal, noisy(signal), "wb")


def test_long_signals_are_scored_apart_by_the_same_pesq(demo, monkeypatch):
    expected = pesq_wb(demo, noisy(demo))
    monkeypatch.setattr(quality, "PESQ_SAFE_SAMPLES", 0)
    assert pesq_wb(demo, noisy(demo)) == expected


def test_more_utterances_than_pesq_can_hold_are_nan_and_do_not_end_the_process():
    time = np.arange(40 * SAMPLE_RATE) / SAMPLE_RATE
    bursts = np.random.default_rng(0).standard_normal(len(time)) * (0.1 * (time % 0.5 < 0.25) + 1e-5)
    assert math.isnan(pesq_wb(bursts, noisy(bursts, 30)))


# -- ViSQOL -----------------------------------------------------------------------------------------------------------


def test_visqol_equals_the_library_with_the_polynomial_mapping(speech):
    for signal in speech[:2]:
        for decoded in distortions(signal):
            assert visqol_speech(signal, decoded) == library("speech", signal, decoded)
    assert visqol_speech(speech[3], noisy(speech[3])) == library("speech", speech[3], noisy(speech[3]))
    assert "polynomial" in VISQOL_MODEL


def test_every_intermediate_result_equals_the_library(speech):
    from visqol import VisqolApi
    from visqol.audio_utils import AudioSignal

    plain, ours = VisqolApi(), Visqol("speech")
    plain.create(mode="speech", use_lattice_model=False)
    for decoded in distortions(speech[3]):
        pair = [AudioSignal(each, SAMPLE_RATE) for each in (speech[3], decoded)]
        theirs, mine = (manager.run_from_signals(*pair) for manager in (plain._manager, ours.manager))
        for name in ("fvnsim", "fvnsim10", "fstdnsim", "fvdegenergy", "center_freq_bands"):
            assert np.array_equal(getattr(theirs, name), getattr(mine, name)), name
        for patch, other in zip(theirs.patch_sims, mine.patch_sims, strict=True):
            assert patch.similarity == other.similarity and patch.deg_patch_start_time == other.deg_patch_start_time


def test_the_audio_mode_equals_the_library_with_its_regression(demo):
    sound = np.repeat(demo[: 2 * SAMPLE_RATE], 3)
    for decoded in (noisy(sound), np.roll(sound, 100), sound):
        assert visqol_audio(sound, decoded) == library("audio", sound, decoded)
    assert "regression" in VISQOL_AUDIO_MODEL


@pytest.mark.parametrize("patched", ["version", "name", "numba"])
def test_another_library_is_used_as_it_is(patched, demo, monkeypatch):
    expected = visqol_speech(demo, noisy(demo))
    if patched == "version":
        monkeypatch.setattr(quality, "KNOWN_VISQOL", ())
    elif patched == "name":
        monkeypatch.delattr("visqol.patch_selector._find_most_optimal_deg_patches_numba")
    else:
        monkeypatch.setitem(sys.modules, "codecbench.benchmark.metrics.hearing.neurograms", None)
    plain = Visqol("speech")
    assert plain.manager is None
    monkeypatch.undo()
    assert plain(demo, noisy(demo)) == expected


def test_the_library_itself_is_left_as_it_was(demo):
    from visqol import alignment, gammatone, numba_accel, patch_selector

    visqol_speech(demo, noisy(demo))
    assert patch_selector._dp_forward_pass is numba_accel._dp_forward_pass
    assert alignment.globally_align.__globals__["upper_envelope"].__module__ == "visqol.signal_utils"
    assert gammatone.GammatoneSpectrogramBuilder(21, 50.0)._build_numba.__module__ == "visqol.gammatone"


def test_what_is_kept_of_a_reference_is_its_own_and_is_used(demo, monkeypatch):
    ours, other = Visqol("speech"), demo[::-1].copy()
    fresh = {name: Visqol("speech")(signal, noisy(signal)) for name, signal in (("demo", demo), ("other", other))}
    assert ours(demo, noisy(demo)) == fresh["demo"]
    assert ours.kept.keys() == {"envelope", "spectrogram"}
    kept = ours.kept["spectrogram"]
    before = kept.data.copy()
    assert ours(demo.copy(), noisy(demo, 20)) > fresh["demo"]
    assert ours.kept["spectrogram"] is kept and np.array_equal(kept.data, before)
    assert ours(other, noisy(other)) == fresh["other"]
    changed = demo.copy()
    ours(changed, noisy(demo))
    changed[:] = other  # the caller may use its array again
    assert ours(changed, noisy(other)) == fresh["other"]
    assert ours(demo, noisy(demo)) == fresh["demo"]


def test_parts_of_a_function_are_replaced_in_a_copy():
    assert with_parts(noisy, np=math).__globals__["np"] is math and noisy.__globals__["np"] is np
    with pytest.raises(KeyError, match="other"):
        with_parts(noisy, other=math)


def test_numba_imported_after_us_survives_a_fork():
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_THREADING_LAYER"}
    script = """
import os
from codecbench.benchmark.metrics import quality
import numba, numpy
@numba.njit(parallel=True)
def total(x):
    result = 0.0
    for i in numba.prange(len(x)):
        result += x[i]
    return result
total(numpy.ones(10))
if os.fork() == 0:
    os._exit(int(total(numpy.ones(10))))
print(os.waitstatus_to_exitcode(os.wait()[1]), numba.threading_layer())
"""
    command = [sys.executable, "-c", script]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert output.split() == ["10", "workqueue"]


# -- the parts --------------------------------------------------------------------------------------------------------


def test_a_hand_worked_gammatone_frame():
    """Two stages that do nothing, one that adds half the last sample, one that keeps half of what came out."""
    numerators = np.zeros((4, 1, 2))
    numerators[:, 0, 0] = 1
    numerators[1, 0, 1] = 0.5
    denominators = np.array([[0.0, 0.0]])
    # 1, 2, 3 under a window of 1, 1, 2 is 1, 2, 6; then 1, 2.5, 7
    output = gammatone(np.array([1.0, 2.0, 3.0, 9.0]), np.array([1.0, 1.0, 2.0]), numerators, denominators, 2)
    assert output == pytest.approx(np.sqrt([[(1 + 2.5**2 + 7**2) / 3]]))
    fed_back = gammatone(np.array([1.0, 0.0]), np.ones(2), np.eye(2)[None, :1].repeat(4, 0), np.array([[-0.5, 0.0]]), 1)
    assert fed_back == pytest.approx(np.sqrt([[(1 + 2.0**2) / 2]]))  # four times a half: 1, then 2


@pytest.mark.parametrize("frames, reach", [(90, 1200), (90, 15), (45, 30)])
def test_the_forward_pass_equals_the_library(frames, reach):
    from visqol.numba_accel import _C1, _C3, _GW, _build_all_deg_patches, _dp_forward_pass

    generator = np.random.default_rng(frames)
    spectrogram = generator.random((21, frames)) * 40
    spectrogram[:, 30:50] = 0  # equal sums
    indices = np.arange(9, frames - 20, 20)
    patches = np.stack([spectrogram[:, i : i + 20] for i in indices]) + 0.1 * generator.random((len(indices), 21, 20))
    decoded = _build_all_deg_patches(spectrogram, 21, 20)
    for count in (len(indices), len(indices) - 1):
        arguments = (patches[:count], decoded, indices, count, frames, reach, _GW, _C1, _C3)
        for theirs, ours in zip(_dp_forward_pass(*arguments), forward_pass(*arguments), strict=True):
            assert np.array_equal(theirs, ours) and theirs.dtype == ours.dtype


@pytest.mark.parametrize("measure", [pesq_wb, visqol_speech, visqol_audio])
def test_what_cannot_be_scored_is_nan_and_silence_gets_the_floor(measure, demo):
    broken = demo.copy()
    broken[7] = np.nan
    for decoded in (broken, demo[:-1], demo[None], np.zeros(0)):
        assert math.isnan(measure(demo, decoded))
        assert math.isnan(measure(decoded, demo))
    for samples in (0, 1, 1600):
        assert math.isnan(measure(demo[:samples], demo[:samples]))
    long = demo.repeat(3)
    assert measure(long, np.zeros_like(long)) == 1.0
