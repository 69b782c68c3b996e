"""Scenes: what is drawn, what is mixed (measured on the result), what is kept, what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.metrics.intelligibility import vstoi
from codecbench.benchmark.specs.grid import make_specs
from codecbench.benchmark.tracks.waveform import WaveformTrack
from codecbench.datamodules.base import SPLITS, Item, active_level
from codecbench.datamodules.cochlear.ace import AceConfig, ace
from codecbench.datamodules.cochlear.conditions import TEST, TRAIN, Lists, Scene, draw
from codecbench.datamodules.cochlear.patterns import cached_patterns
from codecbench.datamodules.demo import Demo
from codecbench.datamodules.errors import DataError
from codecbench.datamodules.parts.references import cached_references
from codecbench.datamodules.parts.waveforms import cached_waveforms
from codecbench.datamodules.scenes import Scenes
from codecbench.leaderboards import records

RATE = 16_000
DEMO = Scenes()


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable(), "one line"
    return message


def every(corpus: Scenes, count: int) -> list[Item]:
    """Some items of each split."""
    return [item for split in SPLITS for item in corpus.items(split)[:: max(1, len(corpus.items(split)) // count)]]


def assert_as_asked(corpus: Scenes, items: list[Item]) -> None:
    """SNR, level and length on what load() and reference() give: the noise is their difference."""
    for item in items:
        heard, clean, speech = corpus.load(item), corpus.reference(item), corpus.speech.load(item)
        noise = heard.astype(np.float64) - clean
        snr = active_level(clean, RATE) - 10 * np.log10(np.mean(np.square(noise)))
        assert snr == pytest.approx(corpus.conditions(item)["snr_db"], abs=0.01), item.name
        assert active_level(heard, RATE) == pytest.approx(-25, abs=1e-3)
        assert len(heard) == len(clean) == len(speech) and heard.dtype == clean.dtype == np.float32
        assert abs(heard.mean()) < 1e-6


# -- what is drawn ----------------------------------------------------------------------------------------------------


def test_the_lists_are_those_of_table_1() -> None:
    noises = ("BFR", "Bus", "CCITT", "Office")
    fifteen = [-90, -75, -60, -45, -30, -15, 0, 15, 30, 45, 60, 75, 90]
    assert DEMO.lists("train") == DEMO.lists("validation") == TRAIN
    assert Lists((-5, 0, 5, 10, 15, 20, 30, 50), noises, ("Anechoic", "Office"), range(-90, 91, 15)) == TRAIN
    assert [*TRAIN.azimuths] == fifteen
    assert DEMO.lists("test") == TEST and TEST.noises == noises
    assert TEST.snrs == (-2.5, 0, 2.5, 5, 7.5, 10, 20, 40) and TEST.scenarios == ("Anechoic", "Office", "Cafeteria")
    assert [*TEST.azimuths] == [-90 + 5 * step for step in range(37)]


def test_every_value_is_drawn_equally_often() -> None:
    scenes = [draw(TEST, np.random.default_rng(seed)) for seed in range(4000)]
    for number, values in enumerate((*TEST, TEST.azimuths)):
        drawn, counts = np.unique([scene[number] for scene in scenes], return_counts=True)
        assert [*drawn] == sorted(values)
        assert (np.abs(counts - 4000 / len(values)) < 5 * np.sqrt(4000 / len(values))).all()


def test_every_item_has_the_conditions_of_its_split() -> None:
    for split in SPLITS:
        lists = DEMO.lists(split)
        for item in DEMO.items(split):
            scene = DEMO.conditions(item)
            assert [*scene] == ["snr_db", "noise", "scenario", "speech_azimuth", "noise_azimuth"]
            assert scene["snr_db"] in lists.snrs and scene["noise"] in lists.noises
            assert scene["scenario"] in lists.scenarios
            assert {scene["speech_azimuth"], scene["noise_azimuth"]} <= {*lists.azimuths}
    assert "Cafeteria" not in {DEMO.scene(item).scenario for split in SPLITS[:2] for item in DEMO.items(split)}
    assert "Cafeteria" in {DEMO.scene(item).scenario for item in DEMO.items("test")}


def test_a_list_of_ones_own_changes_nothing_else() -> None:
    quiet = Scenes(snrs=[15], azimuths=None)
    for item in every(DEMO, 4):
        assert quiet.scene(item) == DEMO.scene(item)._replace(snr_db=15)
    only = Scenes(snrs=[0], noises=["Bus"], scenarios=["Cafeteria"], azimuths=[-40])
    assert {only.scene(item) for item in every(only, 4)} == {(0, "Bus", "Cafeteria", -40, -40)}


# -- what is mixed ----------------------------------------------------------------------------------------------------


def test_snr_level_and_length_are_as_asked() -> None:
    assert_as_asked(DEMO, every(DEMO, 8))


def test_real_speech_is_mixed_as_asked(librispeech_root: Path) -> None:
    corpus = Scenes("librispeech", str(librispeech_root))
    assert [len(corpus.items(split)) for split in SPLITS] == [171, 20, 60]
    assert_as_asked(corpus, every(corpus, 4))


def test_every_noise_and_room_is_mixed_as_asked() -> None:
    for noise in TEST.noises:
        for scenario in TEST.scenarios:
            corpus = Scenes(snrs=[-2.5], noises=[noise], scenarios=[scenario], azimuths=[45])
            assert_as_asked(corpus, corpus.items("test")[:1])


def test_an_item_follows_from_the_seed_and_its_name_alone() -> None:
    items = DEMO.items("test")[:6]
    forward, backward = Scenes(), Scenes()
    first = {item: (forward.load(item), forward.reference(item)) for item in items}
    second = {item: (backward.load(item), backward.reference(item)) for item in reversed(items)}
    other = Scenes(seed=1)
    for item in items:
        assert all(np.array_equal(*pair) for pair in zip(first[item], second[item], strict=True))
        assert not np.array_equal(first[item][0], other.load(item))
    first[items[0]][0][:] = 0
    assert forward.load(items[0]).any(), "what is handed out is the caller's"


def test_the_reference_is_the_speech_as_the_left_ear_hears_it() -> None:
    item = DEMO.items("test")[0]
    speech = Demo().load(item)
    far, near = (Scenes(snrs=[100], scenarios=["Anechoic"], azimuths=[side]) for side in (90, -90))
    for corpus in (far, near):
        clean = corpus.reference(item)
        assert np.abs(corpus.load(item) - clean).max() < 1e-4 * np.abs(clean).max()
        size = 1 << 17
        both = np.fft.rfft(clean, size) * np.conj(np.fft.rfft(speech, size))
        late = int(np.argmax(np.fft.irfft(both / np.abs(both), size)))  # phases alone: one peak whatever is said
        assert late == pytest.approx(60 if corpus is near else 71, abs=2), "4 ms, and the way to the ear"
    spectra = [np.abs(np.fft.rfft(corpus.reference(item)))[8000:] for corpus in (near, far)]
    assert np.square(spectra[0]).sum() > 4 * np.square(spectra[1]).sum(), "the head shades what comes from the right"


def test_intelligibility_rises_with_the_snr() -> None:
    """Of uncoded patterns, all else equal; the front end's own limit is near at 20 dB."""
    means = []
    for snr in (-5, 0, 5, 10, 20):
        corpus = Scenes(snrs=[snr])
        scores = []
        for item in corpus.items("test")[::8]:
            heard, clean = (torch.from_numpy(sound)[None] for sound in (corpus.load(item), corpus.reference(item)))
            scores.append(float(vstoi(ace(heard, AceConfig()), clean)))
        means.append(np.mean(scores))
    assert (np.diff(means) > 0.01).all() and means[0] < 0.6 < 0.7 < means[-1]


def test_babble_holds_no_speaker_of_another_split_nor_the_target() -> None:
    for split in SPLITS:
        item = DEMO.items(split)[0]
        others = DEMO._others(item)
        pool = [*DEMO._voices[split]]
        strangers = [other for other in pool if other.speaker != item.speaker]
        assert {*pool} <= {*DEMO.items(split)} and len(others) == len(strangers) > 3
        assert all(np.array_equal(voice, Demo().load(other)) for voice, other in zip(others, strangers, strict=True))


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_references_are_kept_beside_the_patterns(tmp_path: Path) -> None:
    corpus = Scenes(utterances_per_speaker=2)
    patterns = cached_patterns(corpus, "train", AceConfig(), tmp_path)
    for _ in range(2):
        references = cached_references(corpus, "train", tmp_path)
        assert references.names == patterns.names == [item.name for item in corpus.items("train")]
        assert len(references) == 12
        for index, item in enumerate(corpus.items("train")[:4]):
            assert np.array_equal(references[index], corpus.reference(item))
            assert patterns.lengths[index] == -(-references.lengths[index] // AceConfig().hop)
    heard = cached_waveforms(corpus, "train", tmp_path)
    assert np.array_equal(heard[0], corpus.load(corpus.items("train")[0]))
    assert len([*tmp_path.glob("*.npy")]) == 3


def test_references_of_plain_recordings_are_their_waveforms(tmp_path: Path) -> None:
    assert np.array_equal(
        cached_references(Demo(), "validation", tmp_path)[3], cached_waveforms(Demo(), "validation", tmp_path)[3]
    )
    assert len([*tmp_path.glob("*.npy")]) == 1


def test_the_fingerprint_covers_all_that_is_mixed(tmp_path: Path) -> None:
    rain = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE)
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        soundfile.write(tmp_path / place / "rain.wav", rain, RATE)
    here, there = (Scenes(noise=str(tmp_path / place)) for place in ("here", "there"))
    assert here.fingerprint() == there.fingerprint(), "wherever it lies"
    soundfile.write(tmp_path / "there/rain.wav", -rain, RATE)
    changed = [Scenes(noise=str(tmp_path / "there")), Scenes(seed=1), Scenes(snrs=[0]), Scenes(azimuths=[0, 5])]
    changed += [Scenes(noises=["Bus"]), Scenes(scenarios=["Office"]), Scenes(utterances_per_speaker=3)]
    prints = [corpus.fingerprint() for corpus in (DEMO, here, *changed)]
    assert len({*prints, Demo().fingerprint()}) == len(prints) + 1


def test_a_measured_head_is_part_of_the_fingerprint(hrtf_root: Path, tmp_path: Path) -> None:
    path = next(hrtf_root.rglob("mit_kemar_normal_pinna.sofa"), None)
    if path is None:
        pytest.skip("no head of the MIT is at hand")
    shutil.copy(path, tmp_path / path.name)
    measured, copied = Scenes(head=str(path)), Scenes(head=str(tmp_path / path.name))
    assert measured.fingerprint() == copied.fingerprint() != DEMO.fingerprint()
    assert_as_asked(measured, every(measured, 2))
    assert "mit_kemar_normal_pinna.sofa" in " ".join(measured.notes())


def test_records_do_not_tell_where_files_lie(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "rain.wav", 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
    (spec,) = make_specs("nsvq", "frae", data="scenes", data_options={"noise": str(tmp_path), "snrs": [5.0]})
    assert str(tmp_path) not in str(spec.recorded()) and spec.recorded()["data"]["options"]["snrs"] == [5.0]


# -- noise and speech of one's own ------------------------------------------------------------------------------------


def test_a_folder_of_noise_takes_the_place_of_the_surrogates(tmp_path: Path) -> None:
    loud = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    for name in ("bus", "rain"):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * loud, RATE)
    corpus = Scenes(noise=str(tmp_path), snrs=[0], scenarios=["Anechoic"])
    assert {corpus.scene(item).noise for item in every(corpus, 8)} == {"Bus", "rain"}
    item = max(corpus.items("test"), key=lambda item: len(corpus.load(item)))
    noise = corpus.load(item) - corpus.reference(item)
    power = np.square(np.abs(np.fft.rfft(noise)))
    at = round(1000 * len(noise) / RATE)
    assert len(noise) > 2 * RATE and power[at - 30 : at + 31].sum() > 0.98 * power.sum(), "looped"
    assert "Bus, rain are the user's recordings" in " ".join(corpus.notes())
    both = Scenes(noise=str(tmp_path), noises=["rain", "CCITT"])
    assert {both.scene(item).noise for item in every(both, 8)} == {"CCITT", "rain"}
    soundfile.write(tmp_path / "rain.wav", loud[:8000], RATE)
    assert "rain.wav: only 0.50 s long" in refusal(lambda: Scenes(noise=str(tmp_path)).fingerprint())


def test_any_speech_corpus_will_do(tmp_path: Path) -> None:
    for number, item in enumerate(Demo().items("test")[:8]):
        shutil.copy(item.path, tmp_path / f"{number}.flac")
    corpus = Scenes("folder", str(tmp_path), snrs=[5], noises=["CCITT"])
    corpus.validate()
    assert_as_asked(corpus, corpus.items("train"))
    assert "a folder of recordings" in corpus.notes()[0]
    babble = Scenes("folder", str(tmp_path), noises=["BFR"])
    alone = babble.items("validation")
    assert len(alone) == 1 and "no second recording" in refusal(lambda: babble.load(alone[0]))
    soundfile.write(tmp_path / "9.wav", np.zeros(RATE), RATE)
    silent = Scenes("folder", str(tmp_path))
    (item,) = [item for split in SPLITS for item in silent.items(split) if item.name == "9"]
    assert "9.wav: silent" in refusal(lambda: silent.load(item)) and "9.wav" in refusal(silent.validate)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snrs": [float("inf")]}, "inf in snrs: write numbers from -100 to 100; without noise take the speech corpus"),
        ({"snrs": [float("nan")]}, "nan in snrs"),
        ({"snrs": []}, "snrs is empty"),
        ({"azimuths": [0, 270]}, "270 in azimuths: write numbers from -180 to 180"),
        ({"scenarios": ["Bath"]}, "'Bath' in scenarios: there are Anechoic, Office, Cafeteria"),
        ({"noises": ["Rain"]}, "'Rain' in noises: there are BFR, Bus, CCITT, Office"),
        ({"speech": "music"}, "music: no such speech corpus; there are demo, folder, librispeech"),
        ({"speech": "scenes"}, "no such speech corpus"),
        ({"speech": "../demo"}, "no such speech corpus"),
        ({"root": "/here"}, "/here: demo has its own place"),
        ({"utterances_per_speaker": 0}, "utterances_per_speaker=0 must be at least 1"),
        ({"head": "cube"}, "cube: is neither sphere, nor a .sofa file, nor a folder"),
        ({"head": "/none.sofa"}, "/none.sofa: no such file"),
        ({"noise": "/none"}, "/none: cannot be opened"),
    ],
)
def test_what_cannot_be_is_told(options: dict, message: str) -> None:
    assert message in refusal(lambda: Scenes(**options).fingerprint())


def test_notes_tell_what_stands_in_for_the_real_thing() -> None:
    notes = " ".join(DEMO.notes())
    assert "demo" in notes and "TIMIT" in notes and "spherical-head model" in notes and "synthetic surrogates" in notes
    assert "waveforms are scored against the mixture" in notes


# -- from the command line --------------------------------------------------------------------------------------------


def test_a_run_keeps_the_conditions_of_every_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    for split, count in (("train", 3), ("validation", 2), ("test", 2)):
        for number, item in enumerate(Demo().items(split)[:count]):
            (tmp_path / "speech" / split / f"{split}{number}").mkdir(parents=True)
            shutil.copy(item.path, tmp_path / "speech" / split / f"{split}{number}")
    speech = ["--data.speech", "folder", "--data.root", str(tmp_path / "speech"), "--data.snrs", "[0, 10]"]
    training = ["--codec", "frae", "--quantizer", "nsvq", "--training.steps", "4", "--training.batch_size", "4"]
    assert main(["run", "--data", "scenes", *speech, *training, "--output-dir", str(tmp_path / "runs"), "--quiet"]) == 0
    (record,) = records.find(tmp_path / "runs")
    rows = records.read_items(tmp_path / "runs" / record.name / "items.csv")
    corpus = Scenes("folder", str(tmp_path / "speech"), snrs=[0, 10])
    expected = {item.name: corpus.conditions(item) for item in corpus.items("test")}
    assert {row["item"]: {key: row[key] for key in Scene._fields} for row in rows} == expected
    assert any("synthetic surrogates" in note for note in record.notes)
    track = WaveformTrack(corpus, {"time": 1.0})
    assert [track.load(item).conditions for item in corpus.items("test")] == [*expected.values()]
