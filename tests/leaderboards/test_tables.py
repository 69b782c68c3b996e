"""Leaderboards say what the records say, all of it that matters, and nothing else; pictures are drawn."""

import io
import math
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from codecbench.benchmark.tracks.pictures import electrodogram, training_curve
from codecbench.leaderboards.errors import RecordError
from codecbench.leaderboards.plots import _joined, new_figure, rate_score, save_figure
from codecbench.leaderboards.records import Record, Score
from codecbench.leaderboards.rows import rows
from codecbench.leaderboards.tables import markdown_table, terminal_table
from rich.console import Console


def a_score(mean: float, half: float = 0.02, **changes) -> Score:
    return Score(mean, mean - half, mean + half, 60, 0, "", True)._replace(**changes)


def a_record(quantizer="nsvq", vstoi=0.72, seed=0, codec="frae", data="librispeech", options=None, **changes) -> Record:
    record = Record(
        spec={
            "quantizer": {"name": quantizer, "options": options or {}},
            "codec": {"name": codec, "options": {}},
            "data": {"name": data, "options": {"root": f"/home/{seed}"}},
            "training": {"steps": 2000},
            "bitrate": None,
            "seed": seed,
        },
        hash=f"{quantizer}{codec}{seed}",
        name=f"{codec}_{quantizer}_s{seed}",
        track="cochlear",
        scores={"vstoi": a_score(vstoi), "vstoi_uncoded": a_score(0.815), "estoi": a_score(0.55)},
        rate_kbps={"nominal": 5.333, "entropy": 5.018, "measured": 5.361, "target": None, "missed": False},
        codebook={"perplexity": 43.1, "size": 64, "used": 62, "dead": 2},
        complexity={"parameters": 184346},
        training={"converged": True},
    )
    return replace(record, **changes)


def in_terminal(records: list[Record], width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(terminal_table(records))
    return console.file.getvalue()  # type: ignore[attr-defined]


def first_column(text: str) -> list[str]:
    """The quantizers of a Markdown table, in order."""
    return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")][2:]


def test_a_row_shows_what_its_record_holds():
    line = markdown_table([a_record()]).splitlines()[4]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        "nsvq",
        "frae",
        "1",
        "0.720 [0.700, 0.740]",
        "-0.095",
        "0.550",
        "5.36 (5.02, 5.33)",
        "43.1 (2/64)",
        "184,346",
    ]


def test_headers_have_units_and_directions():
    record = a_record(track="vector", scores={"mse": a_score(0.3, unit="dB", higher_is_better=False)})
    assert " MSE dB ↓ [95 %] |" in markdown_table([record])
    assert "VSTOI ↑ [95 %] | dVSTOI ↑ | ESTOI ↑" in markdown_table([a_record()])


def test_columns_and_labels_are_those_that_records_bring():
    score = {"estoi": a_score(0.5), "clarity": a_score(0.25, unit="dB", higher_is_better=False)}
    table = {"columns": ["estoi", "clarity"], "labels": {"clarity": "Clarity"}}
    new, old = a_record("new", track="speech", scores=score, table=table), a_record("old", track="speech")
    assert "ESTOI ↑ [95 %] | Clarity dB ↓ | kbit/s" in markdown_table([new])
    assert "ESTOI ↑ [95 %] | PESQ-WB | SI-SDR | kbit/s" in markdown_table([old])
    both = markdown_table([old, new]).splitlines()
    assert "ESTOI ↑ [95 %] | PESQ-WB | SI-SDR | Clarity dB ↓ | kbit/s" in " ".join(both[2].split())
    assert first_column("\n".join(both)) == ["old", "new"] and " 0.250 |" in both[5]


def test_a_picture_is_labelled_as_the_records_say(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_ylabel", lambda axis, text: said.append(text))
    record = a_record(scores={"clarity": a_score(0.5)}, table={"labels": {"clarity": "Clarity"}})
    rate_score([record], tmp_path / "a.png", "clarity")
    assert said == ["Clarity, 95 % interval, higher is better"]


@pytest.mark.parametrize("width", [100, 120])
def test_the_terminal_says_the_same_in_100_columns(width):
    records = [a_record("nsvq", 0.72), a_record("ema_vq", 0.70, codec="frae-l5-h3-r4", training={"converged": False})]
    text = in_terminal(records, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = text.split()
    for cell in markdown_table(records).replace("|", " ").split():
        if set(cell) - set("#-:"):
            assert cell in words, cell


def test_a_narrow_terminal_wraps_and_cuts_no_number():
    text = in_terminal([a_record(codec="frae-l5-h3-r4", options={"codebook_bits": 6})], width=80)
    assert {"0.720", "-0.095", "0.550", "5.36", "43.1", "184,346", "(2/64)"} <= set(text.split())


def test_rows_are_sorted_by_the_main_score_with_the_unscored_last():
    records = [a_record("low", 0.5), a_record("none", math.nan), a_record("high", 0.8), a_record("mid", 0.7)]
    assert first_column(markdown_table(records)) == ["high", "mid", "low", "none"]
    vector = [
        a_record(q, track="vector", scores={"mse": a_score(m, higher_is_better=False)}) for q, m in (("b", 2), ("a", 1))
    ]
    assert first_column(markdown_table(vector)) == ["a", "b"]


def test_seeds_become_one_row_with_the_mean_and_a_wider_interval():
    (row,) = rows([a_record(vstoi=0.70, seed=0), a_record(vstoi=0.71, seed=1), a_record(vstoi=0.75, seed=2)])
    assert row.seeds == (0, 1, 2)
    assert row.scores["vstoi"].mean == pytest.approx(0.72)
    assert row.scores["vstoi"].high - row.scores["vstoi"].low > 0.04  # that of one seed
    assert row.scores["dvstoi"].mean == pytest.approx(0.72 - 0.815)


def test_a_run_found_twice_counts_once():
    (row,) = rows([a_record(), a_record(vstoi=0.6)])
    assert (row.seeds, row.scores["vstoi"].mean) == ((0,), 0.6)


def test_rows_that_differ_in_an_option_say_it_and_only_it():
    options = [{"codebook_bits": 6, "replacement": True}, {"codebook_bits": 6, "replacement": False}]
    names = first_column(markdown_table([a_record(options=o, vstoi=0.7 - i / 10) for i, o in enumerate(options)]))
    assert names == ["nsvq replacement=True", "nsvq replacement=False"]
    assert first_column(markdown_table([a_record(options=options[0])])) == ["nsvq"]


def test_rows_that_differ_elsewhere_say_it_in_a_mark():
    longer = a_record(vstoi=0.8)
    longer.spec["training"] = {"steps": 9000}
    text = markdown_table([a_record(), longer])
    assert "- ¹ steps=9000" in text and "- ² steps=2000" in text
    swept = [a_record(), a_record(vstoi=0.8)]
    for record, bitrate in zip(swept, (3.0, 5.0), strict=True):
        record.spec["bitrate"] = bitrate
    assert first_column(markdown_table(swept)) == ["nsvq bitrate=5.0", "nsvq bitrate=3.0"]


def test_marks_are_footnotes_and_name_the_seeds_they_concern():
    records = [
        a_record("nsvq", 0.72, 0),
        a_record("nsvq", 0.72, 1, training={"converged": False}),
        a_record("fem", 0.6, rate_kbps={"measured": 5.4, "target": 5.0, "missed": True}),
        a_record("bad", 0.5, scores={"vstoi": a_score(0.5, n=57, failed=3)}, notes=["decoded in 2 processes"]),
    ]
    text = markdown_table(records)
    assert "- ¹ not converged (seed 1)" in text
    assert "- ² rate missed: 5 kbit/s asked" in text
    assert "- ³ vstoi: 3 of 60 items failed" in text
    assert "- ⁴ decoded in 2 processes" in text
    assert first_column(text) == ["nsvq ¹", "fem ²", "bad ³ ⁴"]


def test_a_mark_of_all_rows_is_said_once_below():
    text = markdown_table([a_record("nsvq", data="demo"), a_record("fem", 0.6, data="demo")])
    assert text.count("demo data: smoke test") == 1
    assert "- all rows: demo data: smoke test" in text
    assert "- demo data: smoke test" in markdown_table([a_record(data="demo")])


def test_data_sets_and_tracks_have_tables_of_their_own():
    other = a_record(track="speech", data="vctk", scores={"estoi": a_score(0.9, n=7)})
    text = markdown_table([other, a_record(data="demo"), a_record()])
    titles = [line for line in text.splitlines() if line.startswith("#")]
    assert titles == [
        "### cochlear · demo · 60 items",
        "### cochlear · librispeech · 60 items",
        "### speech · vctk · 7 items",
    ]


def test_two_folders_are_not_one_data_set():
    records = [a_record(data="folder"), a_record(data="folder", vstoi=0.5)]
    for record, fingerprint in zip(records, ("aaaaaaaaaa", "bbbbbbbbbb"), strict=True):
        record.spec["data_fingerprint"] = fingerprint
    text = markdown_table(records)
    assert "· data aaaaaaaa" in text and "· data bbbbbbbb" in text


def test_what_is_not_recorded_is_not_drawn():
    bare = a_record(scores={}, rate_kbps={}, codebook={}, complexity={}, training={})
    line = markdown_table([bare]).splitlines()[4]
    assert not set(line.split("frae")[1]) & set("023456789")
    assert "184,346" not in in_terminal([bare])
    assert "converged" not in markdown_table([bare])


def test_the_uncoded_level_and_unequal_rates_are_said():
    assert "- uncoded VSTOI: 0.815" in markdown_table([a_record()])
    slow = a_record("fem", 0.6, rate_kbps={"measured": 3.1})
    assert "measured rates differ (3.10 to 5.36 kbit/s)" in markdown_table([a_record(), slow])
    assert "rates differ" not in markdown_table([a_record(), a_record("fem", 0.6)])


def test_names_cannot_break_a_table():
    text = markdown_table([a_record("a|b[red]")])
    assert "a\\|b[red]" in text
    assert "a|b[red]" in in_terminal([a_record("a|b[red]")])


def test_markdown_columns_are_aligned():
    table = [line for line in markdown_table([a_record(), a_record("a_long_name", 0.6)]).splitlines() if "|" in line]
    assert len({len(line) for line in table}) == 1
    assert table[1].startswith("| ---") and table[1].endswith("-: |")


def test_no_records_is_said():
    assert markdown_table([]) == "No records.\n"
    assert in_terminal([]).strip() == "no records"


def pattern(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).uniform(0, 1, size=(22, 300))
    return np.where(values > 0.6, values, -0.1)


def test_an_electrodogram_is_drawn_with_the_low_frequency_at_the_bottom(tmp_path):
    low = np.full((22, 300), -0.1)
    low[0] = 1.0
    electrodogram(low, low, 888.9, tmp_path / "low.png")
    image = matplotlib.image.imread(tmp_path / "low.png")[..., :3]
    panel = image[: image.shape[0] // 3, 100 : image.shape[1] // 2]
    rows_with_colour = np.flatnonzero((np.ptp(panel, axis=2) > 0.1).mean(axis=1) > 0.5)
    assert len(rows_with_colour) > 5
    assert rows_with_colour.min() > 0.8 * panel.shape[0]


def test_patterns_of_two_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one shape"):
        electrodogram(pattern(0), pattern(1)[:, :-1], 888.9, tmp_path / "no.png")


def test_a_curve_joins_rates_and_never_variants_at_one_rate():
    sweep = [a_record(options={"bits": b}, rate_kbps={"measured": float(b)}, vstoi=b / 10) for b in (6, 4)]
    assert [[row.rate_kbps["measured"] for row in curve] for curve in _joined(rows(sweep)).values()] == [[4.0, 6.0]]
    variants = [a_record(options={"replacement": r}, vstoi=0.5 + r / 10) for r in (True, False)]
    assert sorted(_joined(rows(variants))) == ["nsvq replacement=False", "nsvq replacement=True"]


@pytest.mark.filterwarnings("error")
def test_pictures_of_odd_input_are_drawn_without_a_warning(tmp_path):
    electrodogram(pattern(0), pattern(1), 888.9, tmp_path / "a.png", "title")
    electrodogram(np.full((22, 1), np.nan), np.full((22, 1), -0.1), 888.9, tmp_path / "b.png")
    rate_score([a_record(), a_record("identity", 0.8, rate_kbps={"measured": 140.0})], tmp_path / "c.png")
    unsure = a_record(scores={"vstoi": a_score(0.7, low=math.nan, high=math.nan)})
    rate_score([unsure, a_record("bare", rate_kbps={})], tmp_path / "d.png")
    training_curve([0, 100, 200], [1.0, math.nan, 0.5], tmp_path / "e.png")
    training_curve([0, 100], [math.nan, math.inf], tmp_path / "f.png")  # a training that diverged
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in "abcdef")


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no record has both"):
        rate_score([a_record(rate_kbps={})], tmp_path / "no.png")
    with pytest.raises(ValueError, match="do not make a curve"):
        training_curve([], [], tmp_path / "no.png")
    with pytest.raises(RecordError, match="cannot be written"):
        training_curve([0, 1], [1, 0.5], tmp_path / "absent" / "no.png")


def test_a_picture_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def torn(self, target, **options):
        (Path(target).write_bytes if isinstance(target, str | Path) else target.write)(b"half a picture")
        raise RuntimeError("killed")

    (tmp_path / "a.png").write_bytes(b"old")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", torn)
    with pytest.raises(RuntimeError, match="killed"):
        save_figure(new_figure(1, 1), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"old"
