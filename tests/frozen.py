"""Did a refactoring change anything? What small runs measure and what the commands say, before and after.

    python -m tests.frozen record before.json      (in a checkout of the state that is right; some minutes)
    python -m tests.frozen compare before.json     (in the state to be judged, on the same machine; exit 1: it differs)

Everything goes through the command line, as a user's would, in a folder of its own: trainings of codecs and quantizers
of different kinds, a codec with nothing to train, a search of three trials, a reproduction of three claims. Kept are
the numbers of the records, the items' tables, digests of all bitstreams, of every tensor of the models and of the
decoded sounds; and what --help, ls, leaderboard and mistakes print. Names of runs, versions of the code and seconds are
left out. Numbers are equal on one machine alone: the file is not for committing.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parents[1]
VOICES = {"train": ("rp-f4", "us-f2", "us-m3"), "validation": ("scotland-f1",), "test": ("rp-m6", "nyc-f5")}
PER_VOICE = 2
DATA = ["--data", "folder", "--data.root", "speech"]
STEPS = ["--training.steps", "60", "--training.validate_every", "20"]
FRAE = [*STEPS, "--training.batch_size", "16", *DATA]
WAVEFORM = [*STEPS, "--training.batch_size", "2", "--training.crop_seconds", "0.5", *DATA]
CLAIMS = {
    "paper": "Nobody: Three Claims",
    "protocol": ["None."],
    "profiles": {
        "tiny": {
            "cost": "seconds",
            "settings": {"data": {"name": "scenes", "speech": "folder"}},
            "names": {"descend": "gradient:steps=20,quantized=false", "refine": "vstoi:steps=2,batch=2"},
            "train_items": 2,
        }
    },
    "runs": [
        {
            "label": "frae {bits} bit",
            "settings": {
                "codec": "frae-l3-h2-r1",
                "quantizer": {"name": "kmeans_vq", "codebook_bits": "{bits}"},
                "coder": "huffman",
                "training": {"stages": ["{descend}", "fit", "{refine}"], "batch_size": 4},
            },
            "on_train": True,
            "for": {"tiny": {"bits": [2, 4]}},
        },
        {"label": "g722", "settings": {"codec": "g722", "bitrate": 48}, "for": {"tiny": [{}]}},
    ],
    "claims": [
        {
            "id": "more-bits",
            "statement": "Four bits cost more than two.",
            "where": "Fig. 1",
            "paper": "twice",
            "test": {"ratio": ["nominal_kbps", "frae 4 bit", "frae 2 bit"], "about": 2, "tolerance": 0.01},
            "splits": ["test", "train"],
        },
        {
            "id": "better",
            "statement": "... and score higher.",
            "where": "Fig. 1",
            "paper": "+0.1",
            "test": {"difference": ["vstoi", "frae 4 bit", {"every": "frae 2*"}], "above": 0},
        },
        {
            "id": "below-g722",
            "statement": "G.722 is better still.",
            "where": "Fig. 1",
            "paper": "-0.1",
            "test": {"all": [{"difference": ["vstoi", "frae 4 bit", "g722"], "below": 0},
                             {"value": ["codebook.perplexity", "frae 4 bit"], "at_least": 1.5}]},
        },
    ],
    "tables": [{"title": "Table 1", "metrics": ["vstoi", "bits_per_frame"], "paper": {"frae 2 bit": [0.5, None]}}],
}  # fmt: skip
CALLS = {  # each a process of its own
    "frae": ["run", "--codec", "frae", "--quantizer", "nsvq,residual,soft_to_hard,hpm,st_sq,identity", *FRAE],
    "rate": ["run", "--codec", "frae-l3-h2-r1", "--quantizer", "ste_vq,fem", "--bitrate", "4", *FRAE],
    "stft": ["run", "--codec", "stft-small", "--quantizer", "residual", *WAVEFORM],
    "nac": ["run", "--codec", "nac-small", "--quantizer", "soft_to_hard", *WAVEFORM],
    "resglu": ["run", "--codec", "resglu-small", "--quantizer", "fem", *WAVEFORM],
    "toy": ["run", "--codec", "none", "--quantizer", "nsvq,fsq", "--data", "toy", *STEPS],
    "classical": ["run", "--codec", "opus-20ms,electrocodec-2bit", "--bitrate", "16", *DATA],
    "tune": ["tune", "--codec", "frae-l3-h2-r1", "--quantizer", "kmeans_vq:codebook_bits=3", "--trials", "3",
             "--adam-steps", "10", "--spsa-steps", "2", "--quantized", "--out", "tuned.yaml", *DATA],
    "reproduce": ["reproduce", "claims.yaml", "--data.root", "speech"],
}  # fmt: skip
COMMANDS = (
    *("run", "tune", "ls", "check", "encode", "decode", "score", "references", "reproduce", "leaderboard", "gate"),
    *("controls", "mask", "speed"),
)
SAID = [  # in one process together
    ["--help"],
    *([command, "--help"] for command in COMMANDS),
    ["run", "--quantizer", "nsvq,residual", "--codec", "stft", "--data", "librispeech", "--help"],
    *(["ls", what] for what in ("quantizers", "codecs", "data", "metrics", "recipes")),
    ["ls", "codecs", "--complexity"],
    ["run", "--quantizer", "nsvq", "--print_config"],
    *(["check", "--quantizer", name] for name in ("nsvq", "fem", "residual")),
    ["check", "--codec", "frae"],
    ["check", "--codec", "opus-5ms"],
    *(["leaderboard", "--records", f"RESULTS/{name}"] for name in ("librispeech", "librispeech-5kbps", "frae-scenes")),
    ["leaderboard", "--records", "RESULTS/librispeech-5kbps", "--at", "4.9"],
    ["reproduce"],
    # mistakes
    [],
    ["rum"],
    ["run", "--quantizer", "nsvk"],
    ["run", "--quantiser", "nsvq"],
    ["run", "--quantizer", "nsvq", "--quantizer.codebook_bit", "3"],
    ["run", "--quantizer", "nsvq", "--quantizer.codebook_bits", "many"],
    ["run", "--quantizer", "nsvq", "--quantizer.codebook_bits", "30"],
    ["run", "--quantizer", "nsvq:codebook_bits"],
    ["run", "--bitrate", "-3"],
    ["run", "--bitrate", "4000"],
    ["run", "--bitrate", "4", "--quantizer.codebook_bits", "3"],
    ["run", "--seed", "5:2"],
    ["run", "--codec", "opus-5ms", "--bitrate", "1"],
    ["run", "--codec", "g722:track=image"],
    ["run", "--data", "folder"],
    ["run", "--data", "folder", "--data.root", "nowhere"],
    ["run", "--data", "toy"],
    ["run", "--training.steps", "0"],
    ["run", "--training.losses.nothing", "1", "--codec", "stft"],
    ["run", "--training.stages", '["spsa:steps=3"]'],
    ["run", "--training.stages", '["spca:steps=3"]'],
    ["run", "--codec", "stft", "--training.stages", '["fit","vstoi:steps=3"]'],
    ["run", "--profile", "slow"],
    ["run", "--config", "nowhere.yaml"],
    ["run", "--plugin", "nowhere.py"],
    ["run", "--coder", "morse"],
    ["ls", "quantisers"],
    ["check", "--quantizer", "nsvq", "--codec.latent_dim", "3"],
    ["encode", "a.wav", "b.cbs", "--run", "nowhere"],
    ["decode", "a.cbs", "b.wav", "--run", "nowhere"],
    ["score", "--reference", "nowhere", "--decoded", "nowhere"],
    ["leaderboard", "--records", "nowhere"],
    ["gate", "--baseline", "nowhere", "--max-drop", "vstoi=0.1"],
    ["gate", "--baseline", "RESULTS/ci", "--max-drop", "vstoy=0.1"],
    ["tune", "--codec", "opus-5ms"],
    ["reproduce", "frea"],
]
HASHED = r"_s\d+_[0-9a-f]{12}"
UNEQUAL = ("realtime_factor", "seconds", "environment", "hash", "version", "plugins", "name", "spec")  # of two runs


def frozen() -> dict[str, Any]:
    """All that is kept, of the state of the code that is installed."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        _prepare(place)
        with ThreadPoolExecutor(2) as pool:
            said = pool.submit(_said_apart, place)
            codes = dict(zip(CALLS, pool.map(lambda call: _called(place, call), CALLS), strict=True))
        found: dict[str, Any] = {f"exit code of {call}": code for call, code in codes.items()}
        for record in sorted(place.glob("runs/*/*/record.json")):
            found |= _run(record.parent, str(record.parent.relative_to(place / "runs")))
        found |= _tuned(place)
        found["report"] = _plain((next(place.glob("runs/reproduce/reproduce-*")) / "report.md").read_text(), place)
        return json.loads(json.dumps(found | said.result()))


def _prepare(place: Path) -> None:
    demo = HERE / "datamodules" / "corpora" / "demo"
    for split, voices in VOICES.items():
        for voice in voices:
            target = place / "speech" / split / voice
            target.mkdir(parents=True)
            for path in sorted((demo / voice).glob("*.flac"))[:PER_VOICE]:
                (target / path.name).write_bytes(path.read_bytes())
    (place / "claims.yaml").write_text(yaml.safe_dump(CLAIMS), encoding="utf-8")
    (place / "RESULTS").symlink_to(HERE / "leaderboards" / "results")


def _environment() -> dict[str, str]:
    return os.environ | {"COLUMNS": "120", "NO_COLOR": "1", "CODECBENCH_CACHE": "cache"}


def _called(place: Path, call: str) -> int:
    command = [str(Path(sys.executable).with_name("benchmark")), *CALLS[call]]
    command += ["--study", "tuned.db"] if call == "tune" else ["--output-dir", f"runs/{call}"]
    done = subprocess.run(command, cwd=place, env=_environment(), capture_output=True, text=True, check=False)
    print(f"{call}: {done.returncode}\n{done.stderr[-2000:] if done.returncode else ''}", end="", flush=True)
    return done.returncode


def _run(folder: Path, name: str) -> dict[str, Any]:
    """What one run left."""
    from safetensors.numpy import load_file

    name = re.sub(HASHED, "", name)
    record = json.loads((folder / "record.json").read_text())
    found: dict[str, Any] = {f"{name}/{key}": value for key, value in _without(record).items()}
    found[f"{name}/items"] = (folder / "items.csv").read_text()
    for kind in ("bitstreams/*", "examples/*.wav", "items-train.csv"):
        found |= {f"{name}/{path.relative_to(folder)}": _digest(path.read_bytes()) for path in folder.glob(kind)}
    if (folder / "model.safetensors").exists():
        tensors = load_file(folder / "model.safetensors")
        found |= {f"{name}/{key}": f"{t.dtype}{t.shape} {_digest(t.tobytes())}" for key, t in tensors.items()}
    return found


def _without(content: Any) -> Any:
    """A record without what is never twice the same."""
    if isinstance(content, dict):
        return {key: _without(value) for key, value in content.items() if key not in UNEQUAL}
    return [_without(value) for value in content] if isinstance(content, list) else content


def _tuned(place: Path) -> dict[str, Any]:
    import optuna

    study = optuna.load_study(study_name=None, storage=f"sqlite:///{place / 'tuned.db'}")
    found = {f"trial {trial.number}": [trial.values, trial.params] for trial in study.trials}
    return found | {"tuned": _plain((place / "tuned.yaml").read_text(), place)}


def _said_apart(place: Path) -> dict[str, Any]:
    words = [sys.executable, "-m", "tests.frozen", "say", str(place)]
    done = subprocess.run(words, cwd=HERE, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def said(place: Path) -> dict[str, Any]:
    """What commands print, and their exit codes."""
    (command,) = entry_points(group="console_scripts", name="benchmark")
    main, found = command.load(), {}
    os.chdir(place)
    for words in SAID:
        heard = io.StringIO()
        with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
            code = main(words)
        found[f"$ benchmark {' '.join(words)}"] = f"{_plain(heard.getvalue(), place)}\nexit code {code}"
    return found


def _plain(text: str, place: Path) -> str:
    """Without what is another one each time: paths, hashes, seconds."""
    text = text.replace(str(place), ".").replace(str(HERE), "HERE")
    text = re.sub(r"\b[0-9a-f]{12}\b", "HASH", re.sub(HASHED, "_HASH", text))
    text = re.sub(r"\+[0-9a-f]{8}\b", "+CODE", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "DIGEST", text)
    text = re.sub(r"\b\d+(\.\d+)? s\b", "N s", re.sub(r"\| \d+ \| `", "| N | `", text))
    return "\n".join(re.sub(r" {2,}", "  ", line).rstrip() for line in text.splitlines())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A line for everything that is not equal to the bit."""
    lines = [f"gone: {key}" for key in before if key not in after]
    lines += [f"new: {key}" for key in after if key not in before]
    for key in before.keys() & after.keys():
        if before[key] != after[key]:
            old, new = str(before[key]).splitlines(), str(after[key]).splitlines()
            lines.append(f"differs: {key}")
            lines += [f"    - {line}" for line in old if line not in new][:12]
            lines += [f"    + {line}" for line in new if line not in old][:12]
    return lines


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "compare", "say"))
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "say":
        print(json.dumps(said(arguments.file)))
        return 0
    now = frozen()
    if arguments.what == "record":
        arguments.file.write_text(json.dumps(now, indent=1), encoding="utf-8")
        print(f"{len(now)} facts in {arguments.file}")
        return 0
    arguments.file.with_suffix(".after.json").write_text(json.dumps(now, indent=1), encoding="utf-8")
    before = json.loads(arguments.file.read_text(encoding="utf-8"))
    lines = differences(before, now)
    print("\n".join([*lines, f"{len(before)} facts, {len(now)} now: {'they differ' if lines else 'all are equal'}"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
