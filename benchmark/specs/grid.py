"""From what was asked for to the specs of a grid: names, options, recipes and defaults, in that order of weight."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any, get_args

from ...datamodules.cochlear.ace import AceConfig
from ...quantizers.coding.entropy import Coder
from ..errors import UserError
from .classical import NO_QUANTIZER, domains_of, is_classical, make_baseline, rates_to_run, tracks_to_run
from .options import UnknownOptionError, bitrates, create, named, nested_in, resolve, seeds, typed
from .recipes import read_recipe, read_settings, recipe_of, recipes
from .registry import add_class, lookup, registered_name, source_hash
from .spec import KINDS, Choice, Spec, build_codec, build_corpus, build_quantizer
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
    layers = [read_recipe(profile)] if profile is not None and whole else []
    layers += [read_settings(Path(config))] if config else []
    asked = {"quantizer": quantizer, "codec": codec, "data": data, "seed": seed, "bitrate": bitrate, "coder": coder}
    given = {"quantizer": quantizer_options, "codec": codec_options, "data": data_options}
    given |= {"training": _as_given(training), "ace": _as_given(ace)}
    layers.append({key: value for key, value in asked.items() if value is not None} | {"options": given})
    settings = DEFAULTS | {"data": None, "coder": None} | {key: said for layer in layers for key, said in layer.items()}
    options = {part: _merged(part, layers) for part in given}
    if settings["coder"] not in (None, *get_args(Coder)):
        raise UserError(f"--coder {settings['coder']} is unknown; write {' or '.join(get_args(Coder))}")
    specs = _grid(settings, options, lambda family: {} if whole else recipe_of(family, profile))
    if all(spec.quantizer == NO_QUANTIZER for spec in specs):
        for what, said in (("quantizer", quantizer or quantizer_options), ("training", training)):
            if said:
                raise UserError(f"{specs[0].codec.name} has no quantizer and is not trained; leave --{what} out")
    return specs


def _grid(
    settings: Mapping[str, Any], options: Mapping[str, dict[str, Any]], recipe: Callable[[str], Mapping[str, Any]]
) -> list[Spec]:
    rates, every_seed = bitrates(settings["bitrate"]), seeds(settings["seed"])
    typed_ace = _typed("ace", AceConfig, options["ace"])
    requests = _requests("codec", settings["codec"])
    classical = [request for request in requests if is_classical(request[0])]
    if len(classical) == len(requests):
        corpora = _corpora(settings["data"] or DEFAULTS["data"], options["data"])
        return _classical_specs(classical, options["codec"], rates, corpora, typed_ace, ())
    asked = [_sized(*request, options["codec"], recipe) for request in requests if request not in classical]
    codecs = _choices("codec", asked, options["codec"])
    as_given, resolved = (
        _choices("quantizer", _requests("quantizer", settings["quantizer"]), options["quantizer"], defaults=defaults)
        for defaults in (False, True)
    )
    for codec, quantizer in product(codecs, resolved):
        build_codec(codec, lambda channels, share, quantizer=quantizer: build_quantizer(quantizer, channels))
    recipes_of = {codec.name: recipe(_family(codec.name)) for codec in codecs}
    wanted_data = {name: settings["data"] or own.get("data", DEFAULTS["data"]) for name, own in recipes_of.items()}
    corpora = {str(what): _corpora(what, options["data"]) for what in wanted_data.values()}
    every = [corpus for some in corpora.values() for corpus in some]
    beside = _classical_specs(classical, options["codec"], rates, every, typed_ace, codecs)
    return [
        Spec(quantizer, codec, data, print_, typed_ace, training, wanted, seed, coder, sources)
        for codec in codecs
        for own in [recipes_of[codec.name]]
        for coder in [settings["coder"] or own.get("coder", DEFAULTS["coder"])]
        for (data, print_), rate in product(corpora[str(wanted_data[codec.name])], rates)
        for training in [_training(codec, {**own.get("options", {}).get("training", {}), **options["training"]})]
        for given, full in zip(as_given, resolved, strict=True)
        for wanted in [_default_rate(given, codec, own.get("bitrate")) if rate is None else rate]
        for quantizer in [full if wanted is None else given]
        for sources in [_sources(quantizer=quantizer, codec=codec, data=data)]
        for seed in every_seed
    ] + beside


def _classical_specs(
    requests: Sequence[tuple[str, dict[str, Any]]],
    shared: Mapping[str, Any],
    rates: Sequence[float | None],
    corpora: Sequence[tuple[Choice, str]],
    typed_ace: AceConfig,
    trained: Sequence[Choice],
) -> list[Spec]:
    """Of codecs with nothing to train, beside the trained ones of the same call; a seed would change nothing."""
    specs = []
    domains = domains_of([*(codec.name for codec in trained), *(name for name, _ in requests)])
    for name, own in requests:
        given = {**shared, **own}
        alone = "bitrate" in given or (not trained and len(requests) == 1)
        asked = bitrates(str(given.pop("bitrate")).strip("[]")) if "bitrate" in given else rates
        track = given.pop("track", None)
        for (data, print_), rate in product(corpora, rates_to_run(name, asked, alone)):
            for where in tracks_to_run(name, track, build_corpus(data).kind, domains):
                (codec,) = _choices("codec", [(name, {**given, "track": where})], {})
                make_baseline(codec.name, codec.options, rate)  # it may refuse its options
                ace = typed_ace if where == "cochlear" else AceConfig()
                sources = _sources(codec=codec, data=data)
                specs.append(Spec(NO_QUANTIZER, codec, data, print_, ace, bitrate=rate, plugins=sources))
    return specs


def _corpora(what: Any, shared: Mapping[str, Any]) -> list[tuple[Choice, str]]:
    """Corpora and their fingerprints."""
    choices = _choices("data", _requests("data", what), shared)
    return [(data, build_corpus(data).fingerprint()) for data in choices]


def _training(codec: Choice, given: Mapping[str, Any]) -> Training:
    """What was given, over what the codec declares, over the suite's defaults."""
    declared = getattr(lookup("codecs", codec.name)[0], "training_options", {})
    return _typed("training", Training, {**declared, **given})


def _family(codec: str) -> str:
    """The name that a codec and its presets share."""
    return registered_name("codecs", lookup("codecs", codec)[0]) or codec


def _sized(
    name: str, own: dict[str, Any], shared: Mapping[str, Any], recipe: Callable[[str], Mapping[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """A request for a codec, in the preset of its recipe; one that names a preset, or says its options, has its own."""
    preset = recipe(_family(name)).get("codec", name)
    if preset == name or name != _family(name):
        return name, own
    options = lookup("codecs", preset)[1]
    return (name, {**options, **shared, **own}) if shared or own else (preset, {})


def _default_rate(quantizer: Choice, codec: Choice, rate: float | None) -> float | None:
    """The bitrate of a recipe, or a codec's own for methods that learn theirs; None where options fix it already."""
    cls = lookup("quantizers", quantizer.name)[0]
    parts = [part for _, part in nested_in("quantizer", cls, quantizer.options)]
    if not any(getattr(part, "rate_is_learned", False) for part in (cls, *parts)):
        return rate if rate is not None and _leaves_rate_open(quantizer) else None
    if any(option.rpartition(".")[2] in ("target_bits", "rate_weight") for option in quantizer.options):
        return None
    return getattr(lookup("codecs", codec.name)[0], "default_bitrate", None) if rate is None else rate


def _leaves_rate_open(quantizer: Choice) -> bool:
    """Whether a method has options that set its rate, and none of them was given."""
    cls = lookup("quantizers", quantizer.name)[0]
    fixed = typed("quantizer", quantizer.name, cls, quantizer.options)
    for bits in TRIED_BITS:
        with contextlib.suppress(ValueError):
            chosen = cls.for_rate(TRIED_CHANNELS, bits, **fixed)  # type: ignore[attr-defined]
            return bool(chosen) and not chosen.keys() & quantizer.options.keys()
    return False


def _choices(
    part: str, requests: Sequence[tuple[str, dict[str, Any]]], shared: Mapping[str, Any], defaults: bool = True
) -> list[Choice]:
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


def _sources(**choices: Choice) -> tuple[tuple[str, str], ...]:
    parts: list[tuple[str, type]] = []
    for part, choice in choices.items():
        cls = lookup(KINDS[part], choice.name)[0]
        parts += [(choice.name, cls), *nested_in(part, cls, choice.options)]
    return tuple((name, source_hash(cls)) for name, cls in parts)
