"""Noisy speech in rooms, as a device at the left ear hears it: the data of Hinrichs, Bilsky & Ostermann, section II-B.

speech -> head, room -> target ----------------------> x gain -> reference
noise  -> head, room -> x what the SNR asks for -> + -> x gain -> -25 dBFS

Every recording of a speech corpus gets one scene of Table I (cochlear/conditions.py), drawn by the seed and its name
alone; validation takes the lists of train. The SNR is that at the left ear: the level of the target over its active
frames (base.py) over the RMS of the noise. Both sources are 80 cm away. What a room adds after the recording's end is
cut off. Deviations: the paper's noises, TIMIT and the measured head are not free, so that by default noises are
synthetic (cochlear/noise.py), the head is a sphere (cochlear/head.py), its rooms are simulated (cochlear/room.py) and
the speech is that of another corpus. The voices in restaurant and office noise are other speakers of the same split.
"""

import hashlib
import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from .base import LEVEL, SAMPLE_RATE, SPLITS, Item, Recordings, Split, active_level, content_hash, root_folder
from .cochlear.conditions import SCENARIOS, TABLE, Lists, Scene, check_names, check_numbers, draw
from .cochlear.head import Head, SphericalHead
from .cochlear.kayser import KayserHead
from .cochlear.noise import SURROGATES, WITH_VOICES, synthetic_noise
from .cochlear.noise_files import APART_SECONDS, SHARES, NoiseFiles
from .cochlear.room import ROOMS, SIDES, room_response
from .cochlear.sofa import SofaHead
from .errors import DataError
from .parts.tree import Splits, first_per_speaker

VERSION = 1  # raise it when the same files and options give other scenes
POOL = 32  # recordings of a split from which babble is made


@final
class Scenes(Recordings):
    """Any speech corpus in background noise, from all sides.

    Args:
        speech: a speech corpus by its name.
        root: where it lies.
        utterances_per_speaker: the first so many of each speaker; by default what that corpus takes by itself.
        head: "sphere", a .sofa file, or the folder of a copy of the database of Kayser et al. (2009).
        noise: a folder of recordings, called as their noises: BFR, Bus, CCITT, Office replace the synthetic ones.
        snrs: in dB, a list as [0, 5]; like the next three for all splits, by default the lists of Table I.
        noises: a list as [Bus, CCITT]; with a folder of noise by default those in it.
        scenarios: some of [Anechoic, Office, Cafeteria].
        azimuths: in degrees, of speech and noise; negative to the left.
        seed: of scenes and noises.
    """

    title: ClassVar[str] = "scenes: speech in noise and rooms"
    licence: ClassVar[str] = "that of the speech"
    citation: ClassVar[str] = "scenes after Hinrichs, Bilsky & Ostermann; cite the speech corpus too"
    revision: ClassVar[str] = str(VERSION)
    url: ClassVar[str] = ""
    hours: ClassVar[float | None] = None
    location_options: ClassVar[frozenset[str]] = frozenset({"root", "head", "noise"})  # notes() tells what they hold

    def __init__(
        self,
        speech: str = "demo",
        root: str = "",
        utterances_per_speaker: int | None = None,
        head: str = "sphere",
        noise: str = "",
        snrs: list[float] | None = None,
        noises: list[str] | None = None,
        scenarios: list[str] | None = None,
        azimuths: list[float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_numbers("snrs", snrs)
        check_numbers("azimuths", azimuths)
        check_names("scenarios", scenarios, SCENARIOS)
        self.speech = _speech_corpus(speech, root, utterances_per_speaker)
        self.utterances_per_speaker = utterances_per_speaker
        self.head = _head(head)
        self.recorded = NoiseFiles(noise)
        self.seed = seed
        self._choices = Lists([*map(float, snrs or ())], noises or (), scenarios or (), [*map(float, azimuths or ())])
        self._responses: dict[tuple[str, float], np.ndarray] = {}
        self._voices: dict[Split, dict[Item, np.ndarray]] = {}
        self._latest: tuple[Item, np.ndarray, np.ndarray] | None = None

    def items(self, split: Split) -> list[Item]:
        """The recordings of one split of the speech corpus."""
        return self._splits[split]

    def load(self, item: Item) -> np.ndarray:
        """What the left ear hears, float32 [N], at -25 dBFS over its active frames; DataError as the speech corpus."""
        return self._mixed(item)[0].copy()

    def reference(self, item: Item) -> np.ndarray:
        """The speech in it, float32 [N]: through the same head and room, at the same gain, aligned."""
        return self._mixed(item)[1].copy()

    def conditions(self, item: Item) -> dict[str, str | float]:
        """snr_db, noise, scenario, speech_azimuth, noise_azimuth."""
        return self.scene(item)._asdict()

    def scene(self, item: Item) -> Scene:
        """The conditions of an item; they follow from the seed, its name, and the lists of its split."""
        return draw(self.lists(self._homes[item.name]), self._generator(item, "scene"))

    def lists(self, split: Split) -> Lists:
        """What the scenes of a split are drawn from; DataError where a noise is not at hand."""
        choices, table = self._choices, TABLE[split]
        noises = choices.noises or tuple(self.recorded.paths) or table.noises
        check_names("noises", noises, sorted({*SURROGATES, *self.recorded.paths}))
        return Lists(
            choices.snrs or table.snrs, noises, choices.scenarios or table.scenarios, choices.azimuths or table.azimuths
        )

    def ingredients(self) -> Iterator[tuple[str, ...]]:
        """Version, seed, lists, and sha256 of the files of head and noise, which are tried out."""
        yield ("scenes", str(VERSION), str(self.seed), type(self.head).__name__)
        for split in SPLITS:
            lists = self.lists(split)
            self._try_out(lists)
            yield (split, *(repr([*part]) for part in lists))
        for path in self.head.files():
            yield ("head", path.name, content_hash(path))
        for name, path in self.recorded.paths.items():
            yield ("noise", name, content_hash(path), f"{APART_SECONDS} {SHARES}")

    def notes(self) -> list[str]:
        """What stands in for the recordings of the paper, and what the speech corpus has to say."""
        used = {name for split in SPLITS for name in self.lists(split).noises}
        synthetic, recorded = used - self.recorded.paths.keys(), used & self.recorded.paths.keys()
        notes = [f"the speech is {type(self.speech).title}; Hinrichs et al. used TIMIT", self.head.note()]
        if synthetic:
            notes.append(
                f"noises {', '.join(sorted(synthetic))} are synthetic surrogates (CCITT: G.227), not recordings"
            )
        if recorded:
            notes.append(f"noises {', '.join(sorted(recorded))} are the user's recordings")
            same = sorted(name for name in recorded if not self.recorded.apart(name))
            if same:
                notes.append(f"of {', '.join(same)}, shorter than a minute, all splits hear the same")
        notes.append("codecs of waveforms are scored against the mixture that they code, not against the speech in it")
        return notes + self.speech.notes()

    def _mixed(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """Mixture and target; the latest are remembered, as they are asked for one after the other."""
        if self._latest is None or self._latest[0] != item:
            self._latest = (item, *self._mix(item))
        return self._latest[1:]

    def _mix(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        scene, speech = self.scene(item), self.speech.load(item)
        to_speech = self._response(scene.scenario, scene.speech_azimuth)
        to_noise = self._response(scene.scenario, scene.noise_azimuth)
        target = _centred(_convolved(speech, to_speech))
        noise = self._noise(item, scene.noise, len(speech) + len(to_noise) - 1)
        noise = _centred(_convolved(noise, to_noise)[-len(speech) :])  # the room is full of it from the start
        wanted = active_level(target, SAMPLE_RATE) - scene.snr_db
        mixture = target + noise * 10 ** (wanted / 20) / np.sqrt(np.mean(np.square(noise)))
        gain = 10 ** ((LEVEL - active_level(mixture, SAMPLE_RATE)) / 20)
        return (gain * mixture).astype(np.float32), (gain * target).astype(np.float32)

    def _response(self, scenario: str, azimuth: float) -> np.ndarray:
        if (scenario, azimuth) not in self._responses:
            response = self.head.in_room(scenario, azimuth)
            if response is None and scenario in ROOMS:
                response = room_response(self.head, ROOMS[scenario], azimuth)
            elif response is None:
                response = self.head.response(azimuth)
            self._responses[scenario, azimuth] = response
        return self._responses[scenario, azimuth]

    def _noise(self, item: Item, name: str, length: int) -> np.ndarray:
        generator = self._generator(item, "noise")
        if name in self.recorded.paths:
            return self.recorded.excerpt(name, self._homes[item.name], length, generator)
        return synthetic_noise(name, length, generator, self._others(item) if name in WITH_VOICES else ())

    def _others(self, item: Item) -> list[np.ndarray]:
        """Recordings of other speakers of the split, or of the same one where it has no other; never the item's own."""
        split = self._homes[item.name]
        if split not in self._voices:
            items = self.items(split)
            chosen = sorted({round(place) for place in np.linspace(0, len(items) - 1, POOL)})
            self._voices[split] = {items[index]: self.speech.load(items[index]) for index in chosen}
        pool = self._voices[split]
        strangers = [voice for other, voice in pool.items() if other.speaker != item.speaker]
        others = strangers or [voice for other, voice in pool.items() if other != item]
        if not others:
            raise DataError(
                f"the {split} split has no second recording to make babble of; add some, or pass "
                "--data.noises '[Bus, CCITT]'"
            )
        return others

    def _try_out(self, lists: Lists) -> None:
        """DataError where a file of head or noise cannot be used."""
        for name in set(lists.noises) & self.recorded.paths.keys():
            self.recorded.recording(name)
        if isinstance(self.head, SphericalHead):
            return
        for scenario in lists.scenarios:
            measured = [self.head.in_room(scenario, azimuth) for azimuth in lists.azimuths]
            if any(response is None for response in measured):
                for side in SIDES if scenario in ROOMS else lists.azimuths:
                    self.head.response(side)

    def _generator(self, item: Item, what: str) -> np.random.Generator:
        digest = hashlib.sha256(json.dumps([self.seed, item.name, what]).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16]))

    @cached_property
    def _splits(self) -> Splits:
        count = None if "utterances_per_speaker" in _options(type(self.speech)) else self.utterances_per_speaker
        return {split: first_per_speaker(self.speech.items(split), count) for split in SPLITS}

    @cached_property
    def _homes(self) -> dict[str, Split]:
        return {item.name: split for split in SPLITS for item in self.items(split)}


def _convolved(sound: np.ndarray, response: np.ndarray) -> np.ndarray:
    """As long as the sound, float64."""
    size = next_fast_len(len(sound) + len(response) - 1, real=True)
    spectrum = np.asarray(rfft(sound.astype(np.float64), size)) * np.asarray(rfft(response, size))
    return np.asarray(irfft(spectrum, size))[: len(sound)]


def _centred(sound: np.ndarray) -> np.ndarray:
    return sound - sound.mean()


def _speech_corpus(name: str, root: str, utterances_per_speaker: int | None) -> Recordings:
    """A sibling of this file, with those options that it has; DataError where it is no speech corpus."""
    siblings = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    cls = _speech_class(name) if name in siblings else None
    if cls is None:
        raise DataError(
            f"--data.speech {name}: no such speech corpus; there are {', '.join(filter(_speech_class, siblings))}"
        )
    options = {"root": root or None, "utterances_per_speaker": utterances_per_speaker}
    if root and "root" not in _options(cls):
        raise DataError(f"--data.root {root}: {name} has its own place; leave it out, or name a --data.speech")
    return cls(**{option: value for option, value in options.items() if option in _options(cls) and value is not None})


def _speech_class(name: str) -> type[Recordings] | None:
    """The speech corpus that a sibling of this file defines."""
    module = importlib.import_module(f"{__package__}.{name}")
    classes = [cls for _, cls in inspect.getmembers(module, inspect.isclass) if cls.__module__ == module.__name__]
    speech = [cls for cls in classes if issubclass(cls, Recordings) and cls.kind == "speech"]
    return next((cls for cls in speech if cls not in (Recordings, Scenes)), None)


def _options(cls: type[Recordings]) -> Mapping[str, Any]:
    return inspect.signature(cls).parameters


def _head(text: str) -> Head:
    if text == "sphere":
        return SphericalHead()
    path = root_folder(text)
    if path.suffix.lower() == ".sofa":
        return SofaHead(path)
    if path.is_dir():
        return KayserHead(path)
    raise DataError(f"--data.head {text}: is neither sphere, nor a .sofa file, nor a folder")
