"""benchmark tune: Bayesian optimisation of hyper-parameters."""

import argparse
import shlex
from pathlib import Path

from .command import SPEC_GROUPS, Command, Options, add_plugin_option, loading, settings

EXAMPLES = """examples:
  benchmark tune --codec frae --quantizer kmeans_vq --trials 50
  benchmark tune --data librispeech --data.root LibriSpeech --trials 200 --workers 8 --study frae.db
  benchmark tune --codec nac --objective validation --space space.yaml --training.steps 500
  benchmark run --config study.yaml

A search that was stopped goes on with the same command; other settings need another --study. Test items have no part in
it. The file of --space names options of --quantizer, --codec, --training and of a training's stages (spsa, vstoi, ...):

  training.learning_rate: {type: log, low: 0.0003, high: 0.05}      (int, float, log)
  codec.widths.0: {low: 8, high: 96, log: true}                     (an entry of a list)
  quantizer.replacement: [0, 0.1, 0.5]                              (one of these)

Without it the learning rate is searched; for frae also the widths of the layers, the band selection's weight and SPSA's
stability (A) and c. With one worker a search is a function of its seed; with several it is not."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what is tuned, as in benchmark run; one of each")
    what.add_argument("--quantizer", metavar="Q", help="see benchmark ls quantizers (default: nsvq)")
    what.add_argument("--codec", metavar="C", help="see benchmark ls codecs (default: frae)")
    what.add_argument("--data", metavar="D", help="see benchmark ls data (default: demo)")
    what.add_argument("--bitrate", metavar="KBPS", help="kbit/s of the codes before they are compressed")
    what.add_argument("--seed", metavar="N", help="of every training, and of the search (default: 0)")
    what.add_argument(
        "--coder", metavar="CODER", help="of the recipe: range or huffman (default: that it starts from, or range)"
    )
    what.add_argument("--profile", metavar="RECIPE", help="start from a recipe, see benchmark ls recipes")
    what.add_argument("--config", type=Path, metavar="FILE.yaml", help="start from a file, such as a run's spec.yaml")
    add_plugin_option(what)
    goal = parser.add_argument_group("what is a good trial")
    goal.add_argument(
        "--objective",
        choices=("pattern", "validation"),
        help="VSTOI of one training pattern, learned alone; or of a training, its validation VSTOI or loss "
        "(default: pattern for codecs of stimulation patterns)",
    )
    goal.add_argument("--item", metavar="NAME", help="pattern: which training item (default: of median length)")
    goal.add_argument("--adam-steps", type=int, metavar="N", help="pattern: steps of Adam on it (default: 500)")
    goal.add_argument("--spsa-steps", type=int, metavar="N", help="pattern: of SPSA on its VSTOI (default: 100)")
    goal.add_argument("--quantized", action="store_true", help="pattern: SPSA and score with the quantizer")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--space", type=Path, metavar="FILE.yaml", help="option: {type, low, high} or [choices], one a line"
    )
    how.add_argument("--trials", type=int, default=50, metavar="N", help="in the study in all (default: 50)")
    how.add_argument("--study", type=Path, default=Path("study.db"), metavar="FILE.db", help="default: study.db")
    how.add_argument("--workers", type=int, default=1, metavar="N", help="processes, one thread each (default: 1)")
    how.add_argument(
        "--pruner", choices=("median", "hyperband", "none"), default="median", help="ends poor trials early"
    )
    how.add_argument("--out", type=Path, metavar="FILE.yaml", help="the recipe (default: the study's name, .yaml)")
    how.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _tune(arguments: argparse.Namespace, options: Options) -> int:
    console = loading(arguments, arguments.quiet)
    from ..specs.grid import make_specs
    from ..studies.tuning.search import tune

    tune(make_specs(**settings(arguments, options)), arguments, command_line(arguments, options), console)
    return 0


def command_line(arguments: argparse.Namespace, options: Options) -> str:
    """The line that asks for the same search."""
    parser = argparse.ArgumentParser(add_help=False)
    _add_arguments(parser)
    words = ["benchmark", "tune"]
    for name, default in vars(parser.parse_args([])).items():
        values = getattr(arguments, name)
        for value in values if isinstance(values, list) else [values] * (values != default):
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    dotted = [(f"--{group}.{option}", text) for group, values in options.items() for option, text in values.items()]
    return shlex.join([*words, *(word for pair in dotted for word in pair)])


TUNE = Command(
    "tune", "search for a codec's hyper-parameters", EXAMPLES, _add_arguments, _tune, groups=SPEC_GROUPS, resumes=""
)
