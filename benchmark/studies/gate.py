"""The CI gate's training: run the `ci` recipe anew and compare it, item by item, with baseline records."""

from pathlib import Path
from typing import Any

from rich.console import Console

from ...leaderboards import records
from ...leaderboards.errors import RecordError, nearest
from ...leaderboards.gate import compare, exit_code, machines, parse_limit, report, same_machine
from ...leaderboards.records import Record
from ..runs.run import run_one
from ..specs.grid import make_specs
from ..specs.spec import Spec

CHANGEABLE = ("version", "plugins", "data_fingerprint")  # what a change of the code may change in a spec


def gate(baseline: Path, limits: list[str], output_dir: Path, console: Console, profile: str = "ci") -> int:
    """0, or 1 if a metric dropped by more than its limit on the same kind of machine. RecordError, UserError."""
    wanted = [parse_limit(text) for text in limits]
    known = records.find(baseline)
    specs = make_specs(profile=profile)
    pairs = [(spec, _baseline(spec, known, baseline, profile)) for spec in specs]  # all there before anything is run
    for limit in wanted:
        for _, before in pairs:
            if limit.metric not in before.scores:
                hint = nearest(limit.metric, before.scores)
                raise RecordError(f"--max-drop {limit.metric}: {before.name} has no such score{hint}")
    code = 0
    for spec, before in pairs:
        folder = output_dir / "gate" / spec.name
        after = run_one(spec, folder, force=True, wandb=None, console=console)
        rows = records.read_items(records.items_path(before)), records.read_items(folder / "items.csv")
        differs = not same_machine(before, after)
        compared = compare(before, rows[0], after, rows[1], wanted)
        console.print(f"\n[bold]{spec.quantizer.name} in {spec.codec.name}[/]", highlight=False)
        console.print(report(compared, differs, machines(before, after)))
        code = max(code, exit_code(compared, differs))
    return code


def _baseline(spec: Spec, known: list[Record], place: Path, profile: str) -> Record:
    """The record made by the same settings, whatever the code was."""
    same = [record for record in known if _settings(record.spec) == _settings(spec.recorded())]
    if not same:
        what = f"{spec.quantizer.name} in {spec.codec.name}"
        raise RecordError(
            f"{place}: no baseline for {what} by this recipe; make one: benchmark run --profile {profile}"
        )
    if len(same) > 1:
        raise RecordError(f"{place}: {len(same)} baselines of the same settings; keep the one to compare with")
    return same[0]


def _settings(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key not in CHANGEABLE}
