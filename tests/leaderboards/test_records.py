"""A record is strict JSON, written whole or not at all; items come back exactly."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from codecbench.leaderboards import records
from codecbench.leaderboards.errors import RecordError
from codecbench.leaderboards.records import Record, Score, find, read, read_items, write, write_items

SCORE = Score(0.72, 0.7, 0.74, 59, 1, "", True)


def a_record(**changes) -> Record:
    base = Record(
        spec={"quantizer": {"name": "nsvq"}, "codec": {"name": "frae"}, "data": {"name": "demo"}, "seed": 0},
        hash="abc",
        name="run",
        track="cochlear",
        scores={"vstoi": SCORE},
        rate_kbps={"nominal": 5.333, "entropy": 5.1, "measured": 5.36, "target": None, "missed": False},
    )
    return replace(base, **changes)


def strict(text: str):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_what_is_written_is_read(tmp_path):
    record = a_record(notes=["a note", "ünïcode"], training={"converged": True, "steps": 2000})
    write(record, tmp_path / "record.json")
    assert read(tmp_path / "record.json") == record
    assert read(tmp_path / "record.json").path == tmp_path / "record.json"


def test_the_file_is_strict_json_with_sorted_keys(tmp_path):
    odd = {
        "nan": math.nan,
        "inf": math.inf,
        "f32": np.float32("nan"),
        "array": np.array([1.0, -math.inf]),
        "n": np.int64(3),
    }
    write(a_record(codebook=odd, scores={"vstoi": SCORE._replace(low=math.nan)}), tmp_path / "record.json")
    content = strict((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert content["codebook"] == {"nan": None, "inf": None, "f32": None, "array": [1.0, None], "n": 3}
    assert content["scores"]["vstoi"]["low"] is None
    assert list(content) == sorted(content)
    assert math.isnan(read(tmp_path / "record.json").scores["vstoi"].low)


def test_a_record_says_what_its_table_shows_and_older_ones_stay_as_they_are(tmp_path):
    table = {"columns": ["vstoi", "clarity"], "labels": {"clarity": "Clarity"}}
    write(a_record(table=table), tmp_path / "new.json")
    assert read(tmp_path / "new.json").table == table
    write(a_record(), tmp_path / "old.json")
    assert "table" not in json.loads((tmp_path / "old.json").read_text(encoding="utf-8"))
    assert read(tmp_path / "old.json").table == {}


@pytest.mark.parametrize("table", [{"columns": "a"}, {"columns": [["a"]]}, {"labels": []}, {"labels": {"a": 1}}])
def test_a_table_that_cannot_be_drawn_is_refused(table, tmp_path):
    write(a_record(table=table), tmp_path / "record.json")
    with pytest.raises(RecordError, match="the field 'table' is malformed"):
        read(tmp_path / "record.json")


def test_the_place_of_a_record_is_not_part_of_it(tmp_path):
    write(a_record(path=Path("/somewhere/secret")), tmp_path / "record.json")
    assert "secret" not in (tmp_path / "record.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("\udcff", "not JSON"),
        ("[1]", "not a record"),
        ("{}", "no schema"),
        ('{"schema": 2}', "schema 2 is newer than 1"),
        ('{"schema": 1, "spec": {}}', "'hash' is missing"),
        ('{"schema": 1, "spec": 3}', "'spec' is malformed"),
    ],
)
def test_a_file_that_is_no_record_is_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "record.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RecordError, match=said) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "score", [{"mean": 1}, 3, {**SCORE._asdict(), "mean": "high"}, {**SCORE._asdict(), "extra": 1}]
)
def test_a_malformed_score_is_named(tmp_path, score):
    write(a_record(), tmp_path / "record.json")
    content = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    content["scores"]["vstoi"] = score
    (tmp_path / "record.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RecordError, match="the score 'vstoi' is malformed"):
        read(tmp_path / "record.json")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RecordError, match="cannot be written"):
        write(a_record(), tmp_path / "file" / "record.json")
    with pytest.raises(RecordError, match="cannot be read"):
        read(tmp_path / "absent.json")


def test_a_write_that_fails_leaves_the_old_record_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write(a_record(name="old"), path)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(RecordError, match="No space left"):
        write(a_record(name="new"), path)
    assert read(path).name == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_bytes_are_on_disk_before_the_name_is(tmp_path, monkeypatch):
    order = []
    fsync, rename = os.fsync, Path.replace
    monkeypatch.setattr(records.os, "fsync", lambda handle: (order.append("sync"), fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("rename"), rename(self, target))[1])
    write(a_record(), tmp_path / "record.json")
    assert order == ["sync", "rename", "sync"]  # the bytes, the name, the folder that holds the name


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecordError, match="is no file to write to"):
        records.write_whole(tmp_path / "pipe", b"bytes")
    assert (tmp_path / "pipe").is_fifo()


WRITER = """
import sys
from codecbench.leaderboards.records import Record, write
text = "x" * 3_000_000
print("ready", flush=True)
for i in range(10**6):
    notes = [str(i), text[i % 1000:], str(i)]
    write(Record(spec={}, hash="h", name="n", track="t", scores={}, rate_kbps={}, notes=notes), sys.argv[1])
"""


@contextmanager
def a_writer(path: Path) -> Iterator[None]:
    """A process at work that is killed at the end."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        try:
            yield
        finally:
            writer.send_signal(signal.SIGKILL)


def test_a_reader_never_meets_half_a_record(tmp_path):
    path = tmp_path / "record.json"
    with a_writer(path):
        seen, until = set(), time.monotonic() + 20
        while len(seen) < 8 and time.monotonic() < until:
            if path.exists():
                notes = read(path).notes
                assert notes[0] == notes[2]
                seen.add(notes[0])
    assert len(seen) == 8, "the writer was not at work"


@pytest.mark.slow
def test_a_killed_writer_leaves_a_valid_record_or_none(tmp_path):
    path = tmp_path / "record.json"
    rng = np.random.default_rng(0)
    for _ in range(25):
        with a_writer(path):
            time.sleep(rng.uniform(0, 0.1))
        if path.exists():
            notes = read(path).notes
            assert notes[0] == notes[2]
    assert path.exists()
    assert [record.path for record in find(tmp_path)] == [path]  # drafts of the killed are not met


def test_records_are_found_in_runs_in_a_results_folder_and_alone(tmp_path):
    for name in ("b", "a"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        write(a_record(name=name), tmp_path / "runs" / name / "record.json")
    (tmp_path / "results").mkdir()
    write(a_record(name="published"), tmp_path / "results" / "nsvq-frae.json")
    assert [record.name for record in find(tmp_path / "runs")] == ["a", "b"]
    assert [record.name for record in find(tmp_path / "results")] == ["published"]
    assert [record.name for record in find(tmp_path / "results" / "nsvq-frae.json")] == ["published"]
    assert find(tmp_path / "runs" / "a" / "..") != []
    with pytest.raises(RecordError, match="no such file or folder"):
        find(tmp_path / "absent")


def test_an_unreadable_record_is_said_and_left_out(tmp_path, caplog):
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        write(a_record(name=name), tmp_path / name / "record.json")
    (tmp_path / "bad" / "record.json").write_text("{", encoding="utf-8")
    assert [record.name for record in find(tmp_path)] == ["good"]
    assert len(caplog.messages) == 1
    assert "bad" in caplog.text and "not JSON" in caplog.text
    with pytest.raises(RecordError):  # alone it is what was asked for
        find(tmp_path / "bad" / "record.json")


def test_items_come_back_exactly(tmp_path):
    rng = np.random.default_rng(0)
    values = [*rng.normal(size=50), 0.1 + 0.2, 5e-324, 1e308, math.inf, float(np.float32(0.1))]
    rows = [{"item": f"103-1240-{i:04d}", "vstoi": value, "bytes": i} for i, value in enumerate(values)]
    rows += [
        {"item": '1e5, "so", to say\nü', "vstoi": math.nan, "error": "silent"},
        {"item": "007", "vstoi": np.float32(0.1)},
    ]
    write_items(tmp_path / "items.csv", rows)
    back = read_items(tmp_path / "items.csv")
    assert [row["item"] for row in back] == [row["item"] for row in rows]  # text, also where it looks like a number
    assert [row["vstoi"] for row in back[: len(values)]] == values
    assert math.isnan(back[-2]["vstoi"]) and math.isnan(back[-1]["bytes"])
    assert [row["error"] for row in back[-2:]] == ["silent", ""]
    assert "nan" not in (tmp_path / "items.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text", ['"item","vstoi"\nno quotes,1\n', '"item","vstoi"\n"a",1,2\n', '"item","vstoi"\n"a"\n', '"a\n']
)
def test_a_damaged_items_file_is_refused(tmp_path, text):
    (tmp_path / "items.csv").write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match=r"items\.csv"):
        read_items(tmp_path / "items.csv")
