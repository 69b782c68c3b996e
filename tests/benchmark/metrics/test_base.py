"""A metric is declared once, here or in another package, and everything else follows from the declaration."""

import csv
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from codecbench.benchmark.metrics.base import METRICS, SIGNALS, Metric, by_name, check, table_of
from codecbench.datamodules.demo import Demo

THEIRS = '''
"""A package that declares metrics and needs nothing heavy to do so."""

from codecbench.benchmark.metrics.base import Metric


def peak_error(reference, decoded):
    return (decoded - reference).abs().amax(1)


def loudest(reference, decoded):
    return float(abs(decoded).max())


def greedy(reference, decoded, clean):
    return 0.0


PEAK_ERROR = Metric("peak_error", "", False, 16_000, "Largest error of a sample", "theirs:peak_error", ("speech",),
                    ("speech",), label="PeakE")
LOUDEST = Metric("loudest", "", True, 16_000, "Loudest sample", "theirs:loudest", ("speech",), apart=True)
GREEDY = Metric("greedy", "", True, None, "Greedy", "theirs:greedy", ("speech",))
SNR = Metric("snr", "", True, None, "Their SNR", "theirs:greedy", ("speech",))
'''
POINTS = """
[codecbench.metrics]
peak_error = theirs:PEAK_ERROR
loudest = theirs:LOUDEST
snr = theirs:SNR
greedy = theirs:GREEDY
absent = theirs_that_is_not_there:ABSENT
other = theirs:LOUDEST
function = theirs:peak_error
"""
COMMAND = "import sys; from codecbench.benchmark.cli.main import main; sys.exit(main({words!r}))"
LEFT_OUT = [
    "benchmark: the metric 'snr' of theirs is left out: codecbench has one of that name",
    "benchmark: the metric 'greedy' is left out, it cannot be loaded: theirs: TypeError: its function takes 'clean'; "
    "the speech track has reference, decoded, rate",
    "benchmark: the metric 'absent' is left out, it cannot be loaded: theirs: ModuleNotFoundError: "
    "No module named 'theirs_that_is_not_there'",
    "benchmark: the metric 'other' is left out, it cannot be loaded: theirs: ValueError: "
    "theirs:LOUDEST is called 'loudest'",
    "benchmark: the metric 'function' is left out, it cannot be loaded: theirs: TypeError: "
    "theirs:peak_error is no Metric",
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder in which the package is installed."""
    place = tmp_path_factory.mktemp("site")
    about = place / "theirs-1.0.dist-info"
    about.mkdir()
    (place / "theirs.py").write_text(THEIRS, encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(POINTS, encoding="utf-8")
    return place


def in_python(code: str, installed: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What another interpreter makes of it, where the package is installed."""
    environment = os.environ | {"PYTHONPATH": str(installed), "COLUMNS": "140", "NO_COLOR": "1"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_a_metric_of_an_installed_package_is_listed_and_a_broken_one_costs_a_line(installed, tmp_path):
    code = COMMAND.format(words=["ls", "metrics"]) + "\n"
    heard = in_python(f"import atexit, sys\natexit.register(lambda: print('torch' in sys.modules))\n{code}", installed,
                      tmp_path)  # fmt: skip
    lines = [" ".join(line.split()) for line in heard.stdout.splitlines()]
    assert "peak_error Largest error of a sample lower" in lines and "loudest Loudest sample higher" in lines
    assert not [line for line in lines if line.startswith(("greedy", "other", "function"))]
    assert "snr SNR dB higher" in lines and heard.returncode == 0
    assert sorted(heard.stderr.splitlines()) == sorted(LEFT_OUT)
    assert lines[-1] == "False"  # nothing of it needs torch


def test_a_metric_of_an_installed_package_is_scored_recorded_and_shown(installed, tmp_path):
    corpus, peaks = Demo(), {}
    for item in corpus.items("test")[:2]:
        sound = corpus.load(item)[:16_000].astype(np.float64)
        coarse = np.round(sound * 64) / 64
        for place, signal in (("reference", sound), ("decoded", coarse)):
            (tmp_path / place).mkdir(exist_ok=True)
            soundfile.write(tmp_path / place / f"{item.name}.wav", signal, 16_000, subtype="FLOAT")
        peaks[item.name] = pytest.approx(np.abs(coarse - sound).max(), abs=1e-6)
    words = ["score", "--reference", "reference", "--decoded", "decoded", "--output-dir", "out"]
    heard = in_python(COMMAND.format(words=words), installed, tmp_path)
    assert heard.returncode == 0, heard.stderr
    (path,) = (tmp_path / "out").glob("*/record.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert not record["scores"]["peak_error"]["higher_is_better"] and record["scores"]["loudest"]["n"] == 2
    assert record["table"]["columns"] == ["estoi", "pesq_wb", "si_sdr", "peak_error"]
    assert record["table"]["labels"]["peak_error"] == "PeakE" and "PeakE" in heard.stdout
    with path.with_name("items.csv").open(encoding="utf-8") as file:
        errors = {row["item"]: float(row["peak_error"]) for row in csv.DictReader(file)}
    assert errors == peaks
    assert record["scores"]["peak_error"]["mean"] == pytest.approx(sum(errors.values()) / 2)


@pytest.mark.slow
def test_worker_processes_and_torchmetrics_know_a_metric_of_an_installed_package(installed, tmp_path):
    code = """
        import numpy, torch
        from codecbench.benchmark.metrics.modules import PeakError
        from codecbench.benchmark.metrics.scoring.pool import ScorePool
        with ScorePool(2, ready=()) as pool:
            print(pool.submit(["loudest"], numpy.zeros(3), numpy.array([0.0, -3.0, 1.0])).result())
        error = PeakError()
        error.update(torch.tensor([[1.0, 0.0], [0.0, 5.0]]), torch.zeros(2, 2))
        print(float(error.compute()), error.sample_rate, error.higher_is_better)
    """
    heard = in_python(code, installed, tmp_path)
    assert heard.stdout.splitlines() == ["{'loudest': 3.0}", "3.0 16000 False"], heard.stderr
    assert len(heard.stderr.splitlines()) == len(LEFT_OUT)  # said once, not by every process


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_what_is_built_in_can_be_used(metric):
    check(metric)
    assert set(metric.columns) <= set(metric.tracks)


def test_the_metric_that_is_told_to_contributors_can_be_used():
    text = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n# my_metrics\.py\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    check(names["PEAK_ERROR"])
    assert names["peak_error"](torch.zeros(1, 3), torch.tensor([[1.0, -2.0, 0.0]])).tolist() == [2]


def test_every_track_has_a_table_and_the_first_column_sorts_it():
    columns = {track: table_of(track)["columns"] for track in SIGNALS}
    assert columns == {
        "cochlear": ["vstoi", "dvstoi", "estoi"],
        "speech": ["estoi", "pesq_wb", "si_sdr"],
        "audio": ["nmr", "snr"],
        "image": ["ssim", "psnr"],
        "vector": ["mse"],
    }
    assert table_of("speech")["labels"] == {"dvstoi": "dVSTOI", "visqol": "ViSQOL", "two_f": "2f"}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"name": "bytes"}, "'bytes' cannot be a metric's name"),
        ({"name": "their_kbps"}, "'their_kbps' cannot be"),
        ({"name": "Two Words"}, "'Two Words' cannot be"),
        ({"tracks": ("music",)}, "no track 'music'; there are: cochlear, speech"),
        ({"function": "nowhere:function"}, "No module named 'nowhere'"),
        ({"function": ".waveform:nothing"}, "has no attribute 'nothing'"),
        ({"function": ".scoring.patterns:pattern_rmse"}, "takes 'pattern'; the speech track has reference"),
    ],
)
def test_a_declaration_that_cannot_be_used_is_refused(changes, line):
    metric = Metric("theirs", "", True, None, "Theirs", ".waveform:snr", ("speech",))
    check(metric)
    with pytest.raises((TypeError, ValueError, ImportError, AttributeError), match=line):
        check(metric._replace(**changes))


def test_scores_by_name_are_those_that_are_declared():
    assert by_name(3.0, ["one"]) == {"one": 3.0}
    assert by_name({"one": 1, "two": 2}, ["two", "one"]) == {"one": 1, "two": 2}
    for given in (3.0, {"one": 1}, {"one": 1, "two": 2, "three": 3}):
        with pytest.raises(LookupError, match="are declared"):
            by_name(given, ["one", "two"])
