"""Make the demo corpus anew, or compare it: python datamodules/corpora/make_demo.py [--check]

Needs espeak-ng 1.51 (Debian and Ubuntu: apt install espeak-ng) and an installed codecbench. The same version makes
the same samples. Sentence n of demo_sentences.txt is spoken once: voices take the sentences in the order of VOICES.
"""

import argparse
import csv
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from codecbench.datamodules.parts.sound import SAMPLE_RATE, active_level

FOLDER = Path(__file__).parent
ESPEAK = "1.51"
LEVEL = -26.0  # dBFS over active frames
EDGE_SECONDS = 0.05  # of silence kept at both ends
EDGE_RANGE = 50.0  # dB below the peak: where speech is taken to begin
COLUMNS: tuple[str, ...] = ("file", "voice", "split", "sentence", "sha256")


class Voice(NamedTuple):
    """One synthetic speaker."""

    name: str
    split: str
    sentences: int
    espeak: str
    pitch: int  # 0 to 99
    words_per_minute: int


VOICES = (
    Voice("us-m3", "train", 24, "en-us+m3", 40, 200),
    Voice("us-f2", "train", 24, "en-us+f2", 55, 205),
    Voice("caribbean-m7", "train", 24, "en-029+m7", 60, 210),
    Voice("rp-f4", "train", 24, "en-gb-x-rp+f4", 40, 200),
    Voice("scotland-m5", "train", 24, "en-gb-scotland+m5", 35, 195),
    Voice("nyc-f5", "train", 24, "en-us-nyc+f5", 60, 215),
    Voice("us-m2", "validation", 16, "en-us+m2", 75, 205),
    Voice("scotland-f1", "validation", 16, "en-gb-scotland+f1", 70, 200),
    Voice("us-m8", "test", 16, "en-us+m8", 35, 205),
    Voice("caribbean-f3", "test", 16, "en-029+f3", 45, 200),
    Voice("rp-m6", "test", 16, "en-gb-x-rp+m6", 85, 210),
    Voice("us-linda", "test", 16, "en-us+linda", 50, 205),
)


def speak(voice: Voice, sentence: str) -> np.ndarray:
    """One sentence as int16 [N] at 16 kHz, from a process of its own: the synthesiser's state would carry over."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        options = ["-v", voice.espeak, "-p", str(voice.pitch), "-s", str(voice.words_per_minute), "-z", "-w", str(path)]
        subprocess.run(["espeak-ng", *options, sentence], check=True)
        waveform, rate = soundfile.read(path, dtype="float64")
    waveform = soxr.resample(waveform - waveform.mean(), rate, SAMPLE_RATE, quality="HQ")
    loud = np.flatnonzero(np.abs(waveform) > np.abs(waveform).max() * 10 ** (-EDGE_RANGE / 20))
    edge = round(EDGE_SECONDS * SAMPLE_RATE)
    waveform = waveform[max(loud[0] - edge, 0) : loud[-1] + edge]
    waveform = waveform * 10 ** ((LEVEL - active_level(waveform, SAMPLE_RATE)) / 20)
    if np.abs(waveform).max() >= 1:
        sys.exit(f"{voice.name}: {sentence!r} would be clipped; lower LEVEL")
    return np.round(waveform * 32767).astype(np.int16)


def rows() -> list[dict[str, str]]:
    """The lines of demo.csv without their hashes."""
    sentences = (FOLDER / "demo_sentences.txt").read_text(encoding="utf-8").splitlines()
    speakers = [voice for voice in VOICES for _ in range(voice.sentences)]
    return [
        {"file": f"{v.name}/{v.name}-{n:03}.flac", "voice": v.name, "split": v.split, "sentence": sentence}
        for n, (v, sentence) in enumerate(zip(speakers, sentences, strict=True), start=1)
    ]


def require_espeak() -> None:
    """Stop unless the espeak-ng that made the corpus is there: others pronounce and sound a little different."""
    try:
        version = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        sys.exit(f"espeak-ng is not installed; version {ESPEAK} is needed (apt install espeak-ng)")
    if f" {ESPEAK} " not in version:
        sys.exit(f"espeak-ng {ESPEAK} is needed; found: {version.strip()}")


def compare(made: list[dict[str, str]]) -> None:
    """Stop with the first of the utterances that differ from demo.csv."""
    with (FOLDER / "demo.csv").open(newline="", encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    different = [row["file"] for row, old in zip(made, listed, strict=True) if row != old]
    if different:
        sys.exit(f"{len(different)} of {len(made)} utterances differ, first {different[0]}")
    print(f"all {len(made)} utterances are the same")


def main() -> None:
    """Write demo/ and demo.csv, or compare every sample with the hashes in demo.csv."""
    parser = argparse.ArgumentParser(description="Make the demo corpus anew.")
    parser.add_argument("--check", action="store_true", help="only compare with demo.csv; exit 1 where they differ")
    check = parser.parse_args().check
    require_espeak()
    voices, made = {voice.name: voice for voice in VOICES}, rows()
    for row in made:
        samples = speak(voices[row["voice"]], row["sentence"])
        row["sha256"] = hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()
        if not check:
            path = FOLDER / "demo" / row["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16", compression_level=1.0)
    if check:
        return compare(made)
    with (FOLDER / "demo.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(made)


if __name__ == "__main__":
    main()
