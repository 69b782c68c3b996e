"""What a run is, frozen and hashed: every choice that can change a score, with all options resolved."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from ...datamodules.base import Corpus
from ...datamodules.cochlear.ace import AceConfig
from ...quantizers.coding.entropy import Coder
from ..errors import UserError
from .plugin import KINDS, NO_QUANTIZER, Plugin, find
from .registry import PACKAGE
from .training import Training

LOCATION_OPTIONS = frozenset({"root", "download", "mirror"})  # of files whose contents are in data_fingerprint
MODEL, SPEC = "model.safetensors", "spec.yaml"  # in a run's folder
ROOMS = ("metrics", "losses", "specs", "tracks", "training", "runs")
MAKE_SCORES = ("quantizers", "codecs", "datamodules", *(f"benchmark/{room}" for room in ROOMS))
MAKE_INTERVALS = ("leaderboards/statistics.py",)
IDLE = (  # in these rooms, but no score hangs on it
    *("quantizers/checks/", "codecs/checks.py", "codecs/classical/checks.py", "datamodules/corpora/make_"),
    *("benchmark/runs/wandb.py", "benchmark/runs/transcode.py", "benchmark/runs/outside/"),
    "benchmark/tracks/pictures.py",
)


@dataclass(frozen=True)
class Spec:
    """One run. With a bitrate, `quantizer.options` holds only what was asked for; for_rate() gives the rest."""

    quantizer: Plugin[Any]
    codec: Plugin[Any]
    data: Plugin[Corpus]
    data_fingerprint: str
    ace: AceConfig = field(default_factory=AceConfig)
    training: Training = field(default_factory=Training)
    bitrate: float | None = None  # measured kbit/s
    seed: int = 0
    coder: Coder = "range"
    plugins: tuple[tuple[str, str], ...] = ()  # name, sha256 of the file that defines it
    version: str = field(default_factory=lambda: code_version())

    @property
    def trained(self) -> bool:
        """Whether there is anything to train."""
        return self.quantizer is not NO_QUANTIZER

    @property
    def hash(self) -> str:
        """12 hex digits over recorded(): everything that can change a score."""
        canonical = json.dumps(_whole_numbers(self.recorded()), sort_keys=True, allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """The run's folder: frae_nsvq_librispeech_s0_<hash>."""
        rate = [] if self.bitrate is None else [f"{self.bitrate:g}kbps"]
        return "_".join([self.codec.name, self.quantizer.name, self.data.name, *rate, f"s{self.seed}", self.hash])

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, the location of the data included."""
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        content |= {part: content[part].as_dict() for part in KINDS}
        return json.loads(json.dumps(content | {"ace": asdict(self.ace), "training": self.training.as_dict()}))

    def recorded(self) -> dict[str, Any]:
        """as_dict() without where the data lie, which is nobody else's business: what records hold."""
        location = self.data.declared("location_options", LOCATION_OPTIONS)
        content = self.as_dict()
        for option in location & content["data"]["options"].keys():
            del content["data"]["options"][option]
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Spec":
        """The inverse of as_dict(). UserError where a field is unknown, missing or malformed."""
        values = dict(content)
        try:
            for part in KINDS:
                values[part] = find(part, **values[part])
            values["ace"] = AceConfig(**values["ace"])
            values["training"] = Training(**values["training"])
            values["plugins"] = tuple((name, digest) for name, digest in values["plugins"])
            return cls(**values)
        except UserError:
            raise
        except KeyError as error:
            raise UserError(f"not a spec of {PACKAGE}: {error} is missing") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"not a spec of this version of {PACKAGE}: {error}") from error

    def to_yaml(self) -> str:
        """As text that from_yaml() and `benchmark run --config` read."""
        return yaml.safe_dump(self.as_dict(), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str) -> "Spec":
        """The inverse of to_yaml(). UserError where the text is no spec."""
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"not a spec: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise UserError(f"not a spec of {PACKAGE}: it has no fields")
        return cls.from_dict(content)


@cache
def code_version() -> str:
    """The package's version and a digest of all code that makes scores: other code, another run."""
    return f"{version(PACKAGE)}+{_digest(MAKE_SCORES)}"


@cache
def statistics_version() -> str:
    """A digest of the code that makes intervals of scores: other code, other intervals of the same run."""
    return _digest(MAKE_INTERVALS)


def sources(places: Sequence[str]) -> dict[str, Path]:
    """The files of code in folders of the package, those left out on which no score hangs: name -> file."""
    root = Path(__file__).parents[2]
    listed = [sorted((root / place).rglob("*.py")) or [root / place] for place in places]  # a place may be a file
    named = {path.relative_to(root).as_posix(): path for paths in listed for path in paths}
    return {name: path for name, path in named.items() if not name.startswith(IDLE)}


def _digest(places: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name, path in sources(places).items():
        digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def _whole_numbers(value: Any) -> Any:
    """8.0 and 8 are one number."""
    if isinstance(value, dict):
        return {key: _whole_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
