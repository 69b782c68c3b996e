"""What a run is, frozen and hashed: every choice that can change a score, with all options resolved."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from ...codecs.base import Codec
from ...datamodules.base import Corpus
from ...datamodules.cochlear.ace import AceConfig
from ...quantizers.base import Maker, Quantizer
from ...quantizers.coding.entropy import Coder
from ..errors import UserError
from .options import create
from .registry import PACKAGE, Kind, lookup
from .training import Training

KINDS: dict[str, Kind] = {"quantizer": "quantizers", "codec": "codecs", "data": "datamodules"}
LOCATION_OPTIONS = frozenset(
    {"root", "download", "mirror"}
)  # where the files lie; their contents are in data_fingerprint


@dataclass(frozen=True)
class Choice:
    """A plug-in's registered name or preset, and its options as plain JSON values; do not change them."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """One run. With a bitrate, `quantizer.options` holds only what was asked for; for_rate() gives the rest."""

    quantizer: Choice
    codec: Choice
    data: Choice
    data_fingerprint: str
    ace: AceConfig = field(default_factory=AceConfig)
    training: Training = field(default_factory=Training)
    bitrate: float | None = None  # measured kbit/s
    seed: int = 0
    coder: Coder = "range"
    plugins: tuple[tuple[str, str], ...] = ()  # name, sha256 of the file that defines it
    version: str = field(default_factory=lambda: code_version())

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
        return json.loads(json.dumps(asdict(self)))

    def recorded(self) -> dict[str, Any]:
        """as_dict() without where the data lie, which is nobody else's business: what records hold."""
        location = getattr(lookup("datamodules", self.data.name)[0], "location_options", LOCATION_OPTIONS)
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
                values[part] = Choice(**values[part])
            values["ace"] = AceConfig(**values["ace"])
            values["training"] = Training(**values["training"])
            values["plugins"] = tuple((name, digest) for name, digest in values["plugins"])
            return cls(**values)
        except KeyError as error:
            raise UserError(f"not a spec of {PACKAGE}: {error} is missing") from error
        except (TypeError, ValueError) as error:
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
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for folder in ("quantizers", "codecs", "datamodules", "benchmark"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return f"{version(PACKAGE)}+{digest.hexdigest()[:8]}"


def build_codec(codec: Choice, make_quantizer: Maker) -> Codec:
    """The codec of a spec around quantizers. UserError where it refuses its options."""
    return create("codec", codec.name, lookup("codecs", codec.name)[0], codec.options, make_quantizer)


def build_quantizer(quantizer: Choice, channels: int) -> Quantizer:
    """The quantizer of a spec. UserError where it refuses its options."""
    return create("quantizer", quantizer.name, lookup("quantizers", quantizer.name)[0], quantizer.options, channels)


def build_corpus(data: Choice) -> Corpus:
    """The corpus of a spec. UserError or DataError where it cannot be used."""
    return create("data", data.name, lookup("datamodules", data.name)[0], data.options)


def _whole_numbers(value: Any) -> Any:
    """8.0 and 8 are one number."""
    if isinstance(value, dict):
        return {key: _whole_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
