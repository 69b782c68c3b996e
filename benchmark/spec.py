"""What a run is, frozen and hashed: every choice that can change a score, with all options resolved."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, get_args

import yaml

from ..codecs.base import Codec
from ..datamodules.base import Corpus
from ..datamodules.cochlear.ace import AceConfig
from ..quantizers.base import Maker, Quantizer
from .arguments import (
    UnknownOptionError,
    bitrates,
    create,
    named,
    nested_in,
    read_recipe,
    read_settings,
    resolve,
    seeds,
)
from .entropy_coding import Coder
from .errors import UserError
from .plugins import PACKAGE, Kind, add_class, lookup, registered_name, source_hash
from .training_options import Training

KINDS: dict[str, Kind] = {"quantizer": "quantizers", "codec": "codecs", "data": "datamodules"}
DEFAULTS = {"quantizer": "nsvq", "codec": "frae", "data": "demo", "seed": 0, "bitrate": None, "coder": "range"}
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
    root = Path(__file__).parents[1]
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


def make_specs(
    quantizer: Any = None,
    codec: Any = None,
    data: Any = None,
    *,
    seed: Any = None,
    bitrate: Any = None,
    coder: str | None = None,
    training: Training | Mapping[str, Any] | None = None,
    ace: AceConfig | Mapping[str, Any] | None = None,
    quantizer_options: Mapping[str, Any] | None = None,
    codec_options: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    profile: str | None = None,
    config: Path | str | None = None,
) -> list[Spec]:
    """One spec for every combination; what is None comes from `config` (a file), `profile` (a recipe) or the defaults.

    Quantizers, codecs and data are names, presets, classes, lists of these or text like "nsvq:codebook_bits=8,ste_vq";
    seeds and bitrates numbers, lists or text like "0,1" and "0:5". UserError says what cannot be.
    """
    layers = [read_recipe(profile)] if profile else []
    layers += [read_settings(Path(config))] if config else []
    asked = {"quantizer": quantizer, "codec": codec, "data": data, "seed": seed, "bitrate": bitrate, "coder": coder}
    given = {"quantizer": quantizer_options, "codec": codec_options, "data": data_options}
    given |= {"training": _as_given(training), "ace": _as_given(ace)}
    layers.append({key: value for key, value in asked.items() if value is not None} | {"options": given})
    settings = DEFAULTS | {key: value for layer in layers for key, value in layer.items()}
    options = {part: _merged(part, layers) for part in given}
    if settings["coder"] not in get_args(Coder):
        raise UserError(f"--coder {settings['coder']} is unknown; write {' or '.join(get_args(Coder))}")
    return _grid(settings, options)


def _grid(settings: Mapping[str, Any], options: Mapping[str, dict[str, Any]]) -> list[Spec]:
    rates, every_seed = bitrates(settings["bitrate"]), seeds(settings["seed"])
    typed_ace = _typed("ace", AceConfig, options["ace"])
    codecs = _choices("codec", settings["codec"], options["codec"])
    corpora = _choices("data", settings["data"], options["data"])
    as_given, resolved = (
        _choices("quantizer", settings["quantizer"], options["quantizer"], defaults=defaults)
        for defaults in (False, True)
    )
    for codec, quantizer in product(codecs, resolved):
        build_codec(codec, lambda channels, share, quantizer=quantizer: build_quantizer(quantizer, channels))
    prints = [build_corpus(data).fingerprint() for data in corpora]
    return [
        Spec(quantizer, codec, data, print_, typed_ace, training, wanted, seed, settings["coder"], sources)
        for codec, (data, print_), rate in product(codecs, zip(corpora, prints, strict=True), rates)
        for training in [_training(codec, options["training"])]
        for given, full in zip(as_given, resolved, strict=True)
        for wanted in [_default_rate(given, codec) if rate is None else rate]
        for quantizer in [full if wanted is None else given]
        for sources in [_sources(quantizer, codec, data)]
        for seed in every_seed
    ]


def _training(codec: Choice, given: Mapping[str, Any]) -> Training:
    """What was given, over what the codec declares, over the suite's defaults."""
    declared = getattr(lookup("codecs", codec.name)[0], "training_options", {})
    return _typed("training", Training, {**declared, **given})


def _default_rate(quantizer: Choice, codec: Choice) -> float | None:
    """The codec's default bitrate where a quantizer learns its rate and was given nothing that steers it."""
    cls = lookup("quantizers", quantizer.name)[0]
    parts = [part for _, part in nested_in("quantizer", cls, quantizer.options)]
    steered = any(option.rpartition(".")[2] in ("target_bits", "rate_weight") for option in quantizer.options)
    if steered or not any(getattr(part, "rate_is_learned", False) for part in (cls, *parts)):
        return None
    return getattr(lookup("codecs", codec.name)[0], "default_bitrate", None)


def _choices(part: str, what: Any, shared: Mapping[str, Any], defaults: bool = True) -> list[Choice]:
    requests = _requests(part, what)
    choices = []
    for name, own in requests:
        try:
            choices.append(_choice(part, name, {**shared, **own}, defaults))
        except UnknownOptionError as error:
            if len(requests) == 1:
                raise
            raise UserError(f"{error}. Write name:option=value for an option that not all have") from error
    return choices


def _requests(part: str, what: Any) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(what, str):
        return [(name, options) for name, options in named(what)]
    if isinstance(what, type):
        return [(add_class(KINDS[part], what), {})]
    if isinstance(what, Sequence):
        return [request for one in what for request in _requests(part, one)]
    raise UserError(f"{part}={what!r} is neither a name nor a class")


def _choice(part: str, name: str, given: Mapping[str, Any], defaults: bool) -> Choice:
    cls, preset = lookup(KINDS[part], name)
    options = resolve(part, name, cls, {**preset, **given}, defaults)
    for option, value in (resolve(part, name, cls, preset, defaults=False) if preset else {}).items():
        if options[option] != value:  # or the leaderboard would call it what it is not
            family = registered_name(KINDS[part], cls)
            raise UserError(f"{name} stands for {option}={json.dumps(value)}; to set {option}, write --{part} {family}")
    return Choice(name, options)


def _typed(part: str, cls: type, given: Mapping[str, Any]) -> Any:
    return create(part, part, cls, resolve(part, part, cls, given))


def _as_given(value: Any) -> Mapping[str, Any]:
    if value is None or isinstance(value, Mapping):
        return value or {}
    return {f.name: getattr(value, f.name) for f in fields(value)}


def _merged(part: str, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The options of a part, later layers first; one that names another plug-in leaves the earlier ones' behind."""
    merged: dict[str, Any] = {}
    name = DEFAULTS.get(part)
    for layer in layers:
        if layer.get(part, name) != name:
            name, merged = layer[part], {}
        merged |= layer["options"].get(part) or {}
    return merged


def _sources(*choices: Choice) -> tuple[tuple[str, str], ...]:
    parts: list[tuple[str, type]] = []
    for (part, kind), choice in zip(KINDS.items(), choices, strict=True):
        cls = lookup(kind, choice.name)[0]
        parts += [(choice.name, cls), *nested_in(part, cls, choice.options)]
    return tuple((name, source_hash(cls)) for name, cls in parts)


def _whole_numbers(value: Any) -> Any:
    """8.0 and 8 are one number."""
    if isinstance(value, dict):
        return {key: _whole_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
