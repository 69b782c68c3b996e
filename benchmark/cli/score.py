"""benchmark score and references: codecs outside of the package, scored and recorded like a run."""

import argparse
from pathlib import Path

from ..errors import UserError
from .command import Command, Options, add_output_option, add_plugin_option, loading

SCORE_EXAMPLES = """examples:
  benchmark references --data librispeech --data.root LibriSpeech references      (what to code, as WAV files)
  benchmark score --reference references --decoded opus16 --bitstreams opus16 --name opus-16k
  benchmark score --reference clean --decoded mine --align --track cochlear

Files belong together by their path without its suffix: references/a/1.wav, opus16/a/1.wav, opus16/a/1.opus. A decoded
file may be 0.1 s longer or shorter than its reference, and of another sample rate; it must not be late, unless --align
takes out the delay that is common to all files. The record lies in the output folder, beside those of runs."""
REFERENCES_EXAMPLES = """examples:
  benchmark references --data librispeech --data.root LibriSpeech references
  benchmark references references                                                 (of the embedded demo voices)

The files are mono, float32, as a run's codec is handed them: resampled, without DC, speech at -25 dBFS. references.json
says what they are, so that benchmark score puts its record into the same table as runs on these data."""


def _add_score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reference", type=Path, required=True, metavar="DIR", help="what was coded: WAV, FLAC, ... in any subfolders"
    )
    parser.add_argument(
        "--decoded", type=Path, required=True, metavar="DIR", help="what came out, under the same names"
    )
    parser.add_argument("--bitstreams", type=Path, metavar="DIR", help="the coded files, whose bytes are the rate")
    parser.add_argument("--name", metavar="NAME", help="of the codec in tables (default: the decoded folder's)")
    parser.add_argument(
        "--track", choices=("speech", "audio", "cochlear"), help="default: speech below 32 kHz, audio from there on"
    )
    parser.add_argument("--align", action="store_true", help="take out the delay that all decoded files share")
    add_output_option(parser)


def _score(arguments: argparse.Namespace, _: Options) -> int:
    for option in ("reference", "decoded", "bitstreams"):
        folder = getattr(arguments, option)
        if folder is not None and not folder.is_dir():
            raise UserError(f"--{option} {folder}: no such folder")
    console = loading(arguments)
    from ..runs.outside.scoring import Scoring, score

    score(Scoring(**{key: getattr(arguments, key) for key in Scoring._fields}), arguments.output_dir, console)
    return 0


def _add_references(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", type=Path, metavar="DIR", help="an empty or new folder")
    parser.add_argument("--data", metavar="D", default="demo", help="see benchmark ls data (default: demo)")
    add_plugin_option(parser)


def _references(arguments: argparse.Namespace, options: Options) -> int:
    console = loading(arguments)
    from ..runs.outside.references import write_references

    write_references(arguments.data, options.get("data", {}), arguments.target, console)
    return 0


SCORE = Command("score", "score what another codec decoded, as a run is scored", SCORE_EXAMPLES, _add_score, _score)
REFERENCES = Command(
    "references",
    "write a corpus's test items as files for other codecs to code",
    REFERENCES_EXAMPLES,
    _add_references,
    _references,
    groups=("data",),
)
