"""A corpus's test items as files, for codecs outside of this package, and what they are, so that scores find home."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import soundfile
from rich.console import Console
from rich.progress import track as progress_bar

from ....datamodules.base import Recordings, content_hash, shown
from ....leaderboards.records import write_whole
from ...errors import UserError
from ...specs.options import named, resolve
from ...specs.plugin import Plugin
from ...specs.registry import lookup
from ...specs.spec import LOCATION_OPTIONS

MANIFEST = "references.json"


class Manifest(NamedTuple):
    """What a folder of references is."""

    data: dict[str, Any]  # name and options, as in the spec of a run
    data_fingerprint: str
    kind: str  # of the corpus
    files: dict[str, str]  # item: sha256 of its file
    noisy: bool = False  # intelligibility is scored against other signals than these


def write_references(data: str, options: Mapping[str, Any], target: Path, console: Console) -> None:
    """Write every test item of a corpus to `target`/ITEM.wav, and the manifest. UserError, DataError: why not."""
    (name, own), *others = named(data)
    if others:
        raise UserError(f"references takes one corpus at a time, not {data}")
    cls, preset = lookup("datamodules", name)
    plugin = Plugin("data", name, cls, resolve("data", name, cls, {**preset, **options, **own}))
    corpus = plugin.build()
    if not isinstance(corpus, Recordings):
        raise UserError(f"{name} holds no recordings; see benchmark ls data")
    items = corpus.items("test")
    try:
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise UserError(f"{shown(target)}: is not empty; name a new folder")
        files: dict[str, str] = {}
        try:
            for item in progress_bar(items, "references", console=console, transient=True):
                path, waveform = target / f"{item.name}.wav", corpus.load(item)
                files[item.name] = ""
                soundfile.write(path, waveform, corpus.sample_rate, subtype="FLOAT")
                files[item.name] = content_hash(path)
        except BaseException:  # a part of the test items would pass for all
            for name in files:
                (target / f"{name}.wav").unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{shown(target)}: cannot be written ({error.strerror}); name another folder") from error
    places = getattr(cls, "location_options", LOCATION_OPTIONS)
    kept = {option: value for option, value in plugin.options.items() if option not in places}
    noisy = cls.reference is not Recordings.reference
    manifest = Manifest({"name": name, "options": kept}, corpus.fingerprint(), corpus.kind, files, noisy)
    write_whole(target / MANIFEST, json.dumps(manifest._asdict(), indent=1))
    console.print(
        f"{shown(target)}: {len(files)} files, {corpus.sample_rate} Hz, mono, float32", highlight=False, soft_wrap=True
    )


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder of references; None where it has none. UserError where it does not fit its files."""
    path = folder / MANIFEST
    try:
        manifest = Manifest(**json.loads(path.read_text(encoding="utf-8")))
        if not {"name", "options"} <= manifest.data.keys():
            raise ValueError("its data have no name")
        changed = [item for item, digest in manifest.files.items() if content_hash(folder / f"{item}.wav") != digest]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{shown(path)}: cannot be used ({reason}); write the references anew") from error
    if changed:
        raise UserError(f"{shown(folder)}: {changed[0]}.wav is not what was written; write the references anew")
    return manifest
