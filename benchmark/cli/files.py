"""benchmark encode and decode: a sound file to a real bitstream and back, by the codec of a run."""

import argparse
from pathlib import Path

from .command import Command, Options, add_plugin_option, loading

ENCODE_EXAMPLES = """examples:
  benchmark encode speech.wav speech.cbs --run runs/frae_nsvq_demo_s0_0123456789ab
  benchmark encode speech.flac speech.cbs --run runs/NAME --coder huffman
  benchmark encode speech.wav low.cbs --run runs/NAME --streams 2      (a residual quantizer's first two streams)
  benchmark encode speech.wav opus.cbs --run runs/opus-5ms_none_demo_16kbps_s0_0123456789ab

The sound is mixed to one channel, resampled to the rate, and set to the level, of the run's data.
Length and sample rate of the source go into the bitstream's header, its level does not."""
DECODE_EXAMPLES = """examples:
  benchmark decode speech.cbs back.wav --run runs/frae_nsvq_demo_s0_0123456789ab

The run must be the one that encoded. The sound has the source's length, to the sample, and its rate, one channel and
the level of the run's data. A codec of stimulation patterns decodes to a pattern, which a sine vocoder
makes audible at -25 dBFS."""


def _add_encode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SOUND", help="wav, flac, ogg, mp3, ...; any rate, length, level")
    parser.add_argument("target", type=Path, metavar="BITSTREAM", help="where to write the bitstream, such as out.cbs")
    parser.add_argument("--streams", type=int, metavar="N", help="code only the first N streams (default: all)")
    parser.add_argument("--coder", choices=("range", "huffman"), help="default: that of the run")
    _add_run_folder(parser)


def _add_decode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="BITSTREAM", help="a file that this run's codec encoded")
    parser.add_argument("target", type=Path, metavar="SOUND", help="where to write the sound: .wav, .flac or .aiff")
    _add_run_folder(parser)


def _add_run_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="the folder of a finished run: its codec"
    )
    add_plugin_option(parser)


def _transcode(arguments: argparse.Namespace, _: Options) -> int:
    console = loading(arguments)
    from ..runs.transcode import decode, encode

    paths = (arguments.source, arguments.target, arguments.run)
    lines = decode(*paths) if arguments.command == "decode" else encode(*paths, arguments.streams, arguments.coder)
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    return 0


ENCODE = Command(
    "encode", "a sound file to a bitstream, by the codec of a run", ENCODE_EXAMPLES, _add_encode, _transcode
)
DECODE = Command(
    "decode", "a bitstream to a sound file of the same length and rate", DECODE_EXAMPLES, _add_decode, _transcode
)
