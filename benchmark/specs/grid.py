"""From what was asked for to the specs of a grid: names, options, recipes and defaults, in that order of weight."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

from ...codecs.base import Codec
from ...datamodules.base import Corpus
from ...datamodules.cochlear.ace import AceConfig
from ...quantizers.base import Quantizer
from ...quantizers.coding.entropy import Coder
from ..errors import UserError
from ..losses import check_losses
from .classical import domains_of, is_classical, rates_to_run, tracks_to_run
from .options import UnknownOptionError, bitrates, create, named, resolve, seeds, told_by
from .plugin import KINDS, NO_QUANTIZER, Plugin
from .recipes import read_recipe, read_settings, recipe_of, recipes
from .registry import add_class, lookup, registered_name
from .spec import Spec
from .stages import plain
from .training import Training

DEFAULTS = {"quantizer": "nsvq", "codec": "frae", "data": "demo", "seed": 0, "bitrate": None, "coder": "range"}
TRIED_CHANNELS, TRIED_BITS = 32, (8.0, 32.0, 128.0)  # at which a method is asked which options set its rate


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
    """One spec for every combination; what is None comes from `config` (a file), `profile` or the defaults.

    Quantizers, codecs and data are names, presets, classes, lists of these or text like "nsvq:codebook_bits=8,ste_vq";
    seeds and bitrates numbers, lists or text like "0,1" and "0:5". A profile is a recipe, or "quick" (None) or "paper":
    each codec's own recipe of that name. UserError says what cannot be.
    """
    whole = profile in recipes()
    layers = [read_recipe(str(profile))] if whole else []
    layers += [read_settings(Path(config))] if config else []
    choices = {"quantizer": quantizer, "codec": codec, "data": data, "seed": seed, "bitrate": bitrate, "coder": coder}
    groups = {"quantizer": quantizer_options, "codec": codec_options, "data": data_options}
    groups |= {"training": _as_given(training), "ace": _as_given(ace)}
    layers.append({key: value for key, value in choices.items() if value is not None} | {"options": groups})
    settings = (
        DEFAULTS | {"data": None, "coder": None} | {key: value for layer in layers for key, value in layer.items()}
    )
    options = {part: _merged(part, layers) for part in groups}
    if settings["coder"] not in (None, *get_args(Coder)):
        raise UserError(f"--coder {settings['coder']} is unknown; write {' or '.join(get_args(Coder))}")
    specs = _grid(settings, options, lambda family: {} if whole else recipe_of(family, profile))
    if not any(spec.trained for spec in specs):
        for what, value in (("quantizer", quantizer or quantizer_options), ("training", training)):
            if value:
                raise UserError(f"{specs[0].codec.name} has no quantizer and is not trained; leave --{what} out")
    return specs


def _grid(
    settings: Mapping[str, Any], options: Mapping[str, dict[str, Any]], recipe: Callable[[str], Mapping[str, Any]]
) -> list[Spec]:
    rates, every_seed = bitrates(settings["bitrate"]), seeds(settings["seed"])
    typed_ace = create("ace", "ace", AceConfig, resolve("ace", "ace", AceConfig, options["ace"]))
    wanted = _wanted("codec", settings["codec"])
    classical = [codec for codec in wanted if is_classical(codec.cls)]
    if len(classical) == len(wanted):
        corpora = _corpora(settings["data"] or DEFAULTS["data"], options["data"])
        return _classical_specs(classical, options["codec"], rates, corpora, typed_ace, ())
    sized = [_sized(codec, options["codec"], recipe) for codec in wanted if codec not in classical]
    codecs = _plugins("codec", sized, options["codec"])
    as_given, resolved = (
        _plugins("quantizer", _wanted("quantizer", settings["quantizer"]), options["quantizer"], defaults=defaults)
        for defaults in (False, True)
    )
    for codec, quantizer in product(codecs, resolved):
        codec.build(lambda channels, share, quantizer=quantizer: quantizer.build(channels))
    recipes_of = {codec.name: recipe(codec.family) for codec in codecs}
    wanted_data = {
        name: settings["data"] or profile.get("data", DEFAULTS["data"]) for name, profile in recipes_of.items()
    }
    corpora = {str(what): _corpora(what, options["data"]) for what in wanted_data.values()}
    every = [corpus for some in corpora.values() for corpus in some]
    beside = _classical_specs(classical, options["codec"], rates, every, typed_ace, codecs)
    return [
        Spec(quantizer, codec, data, print_, typed_ace, training, kbps, seed, coder, sources)
        for codec in codecs
        for profile in [recipes_of[codec.name]]
        for coder in [settings["coder"] or profile.get("coder", DEFAULTS["coder"])]
        for (data, print_), rate in product(corpora[str(wanted_data[codec.name])], rates)
        for training in [_training(codec, {**profile.get("options", {}).get("training", {}), **options["training"]})]
        for sparse, full in zip(as_given, resolved, strict=True)
        for kbps in [_default_rate(sparse, codec, profile.get("bitrate")) if rate is None else rate]
        for quantizer in [full if kbps is None else sparse]
        for sources in [(*quantizer.sources, *codec.sources, *data.sources)]
        for seed in every_seed
    ] + beside


def _classical_specs(
    wanted: Sequence["_Wanted"],
    shared: Mapping[str, Any],
    rates: Sequence[float | None],
    corpora: Sequence[tuple[Plugin[Corpus], str]],
    typed_ace: AceConfig,
    trained: Sequence[Plugin[Codec]],
) -> list[Spec]:
    """Of codecs with nothing to train, beside the trained ones of the same call; a seed would change nothing."""
    specs = []
    domains = domains_of([codec.cls for codec in (*trained, *wanted)])
    for codec in wanted:
        options = {**shared, **codec.options}
        alone = "bitrate" in options or (not trained and len(wanted) == 1)
        requested = bitrates(str(options.pop("bitrate")).strip("[]")) if "bitrate" in options else rates
        track = options.pop("track", None)
        for (data, print_), rate in product(corpora, rates_to_run(codec.name, codec.cls, requested, alone)):
            for where in tracks_to_run(codec.name, codec.cls, track, data.cls.kind, domains):
                plugin = _plugin("codec", codec._replace(options={**options, "track": where}))
                plugin.build(rate)  # it may refuse its options
                ace = typed_ace if where == "cochlear" else AceConfig()
                sources = (*plugin.sources, *data.sources)
                specs.append(Spec(NO_QUANTIZER, plugin, data, print_, ace, bitrate=rate, plugins=sources))
    return specs


def _corpora(what: Any, shared: Mapping[str, Any]) -> list[tuple[Plugin[Corpus], str]]:
    """Corpora and their fingerprints."""
    return [(data, data.build().fingerprint()) for data in _plugins("data", _wanted("data", what), shared)]


def _training(codec: Plugin[Codec], options: Mapping[str, Any]) -> Training:
    """What was given, over what the codec declares, over the suite's defaults."""
    resolved = resolve("training", "training", Training, {**codec.declared("training_options", {}), **options})
    training: Training = create("training", "training", Training, resolved)
    if training.losses is not None:
        with told_by("training"):
            check_losses(training.losses, codec.declared("domain"))
    return training


def _default_rate(quantizer: Plugin[Quantizer], codec: Plugin[Codec], rate: float | None) -> float | None:
    """The bitrate of a recipe, or a codec's own for methods that learn theirs; None where options fix it already."""
    if not any(getattr(cls, "rate_is_learned", False) for _, cls in quantizer.classes):
        return rate if rate is not None and _leaves_rate_open(quantizer) else None
    if any(option.rpartition(".")[2] in ("target_bits", "rate_weight") for option in quantizer.options):
        return None
    return codec.declared("default_bitrate") if rate is None else rate


def _leaves_rate_open(quantizer: Plugin[Quantizer]) -> bool:
    """Whether a method has options that set its rate, and none of them was given."""
    fixed = quantizer.arguments
    for bits in TRIED_BITS:
        with contextlib.suppress(ValueError):
            chosen = quantizer.cls.for_rate(TRIED_CHANNELS, bits, **fixed)
            return bool(chosen) and not chosen.keys() & quantizer.options.keys()
    return False


# -- from names to plug-ins --------------------------------------------------------------------------------------------


class _Wanted(NamedTuple):
    """A plug-in as it was asked for."""

    name: str
    cls: Any
    preset: dict[str, Any]  # options that the name stands for
    options: dict[str, Any]


def _wanted(part: str, what: Any) -> list[_Wanted]:
    if isinstance(what, str):
        return [_Wanted(name, *lookup(KINDS[part], name), options) for name, options in named(what)]
    if isinstance(what, type):
        return _wanted(part, add_class(KINDS[part], what))
    if isinstance(what, Sequence):
        return [request for one in what for request in _wanted(part, one)]
    raise UserError(f"{part}={what!r} is neither a name nor a class")


def _sized(codec: _Wanted, shared: Mapping[str, Any], recipe: Callable[[str], Mapping[str, Any]]) -> _Wanted:
    """A codec in the preset of its recipe; one that was asked for by a preset, or with options, has its own."""
    family = registered_name("codecs", codec.cls) or codec.name
    preset = recipe(family).get("codec", codec.name)
    if preset == codec.name or codec.name != family:
        return codec
    cls, options = lookup("codecs", preset)
    if shared or codec.options:
        return _Wanted(codec.name, cls, {}, {**options, **shared, **codec.options})
    return _Wanted(preset, cls, options, {})


def _plugins(
    part: str, wanted: Sequence[_Wanted], shared: Mapping[str, Any], defaults: bool = True
) -> list[Plugin[Any]]:
    plugins = []
    for one in wanted:
        try:
            plugins.append(_plugin(part, one._replace(options={**shared, **one.options}), defaults))
        except UnknownOptionError as error:
            if len(wanted) == 1:
                raise
            raise UserError(f"{error}. Write name:option=value for an option that not all have") from error
    return plugins


def _plugin(part: str, wanted: _Wanted, defaults: bool = True) -> Plugin[Any]:
    name, cls, preset, options = wanted
    plugin = Plugin(part, name, cls, resolve(part, name, cls, {**preset, **options}, defaults))
    for option, value in (resolve(part, name, cls, preset, defaults=False) if preset else {}).items():
        if plugin.options[option] != value:  # or the leaderboard would call it what it is not
            raise UserError(
                f"{name} stands for {option}={json.dumps(value)}; to set {option}, write --{part} {plugin.family}"
            )
    return plugin


def _as_given(value: Any) -> Mapping[str, Any]:
    """Options as plain values, of whatever form they were handed over in."""
    if isinstance(value, Training):
        options = value.as_dict()
        return {name: said for name, said in options.items() if said is not None}  # None: the codec's own
    options = dict(value or {}) if value is None or isinstance(value, Mapping) else asdict(value)
    if isinstance(options.get("stages"), list | tuple):
        options["stages"] = [plain(stage) for stage in options["stages"]]
    return options


def _merged(part: str, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The options of a part, later layers first; one that names another plug-in leaves the earlier ones' behind."""
    merged: dict[str, Any] = {}
    name = DEFAULTS.get(part)
    for layer in layers:
        if layer.get(part, name) != name:
            name, merged = layer[part], {}
        merged |= layer["options"].get(part) or {}
    return merged
