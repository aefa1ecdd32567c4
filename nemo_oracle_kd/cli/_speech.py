# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The options that name the speech which a teacher hears: a manifest, with or without archives, or a Lhotse Shar."""

import argparse


def add_speech_arguments(parser: argparse.ArgumentParser, metavar: str, what: str) -> None:
    """Adds ``--manifest``, ``--tarred-audio-filepaths`` and ``--shar``.

    Args:
        parser: gets the options.
        metavar: stands for the manifest.
        what: help of ``--manifest``.
    """
    parser.add_argument('--manifest', metavar=metavar, help=what)
    parser.add_argument(
        '--tarred-audio-filepaths',
        nargs='+',
        metavar='AUDIO.tar',
        help="archives of the manifest's audio, also as a range: audio_{0..7}.tar",
    )
    parser.add_argument('--shar', metavar='DIR', help='instead of --manifest: folder of a Lhotse Shar')


def speech_option(args: argparse.Namespace) -> str:
    """The option that must be given, without its dashes."""
    return 'manifest' if args.shar is None else 'shar'


def speech_problems(args: argparse.Namespace) -> list[str]:
    """What of these options does not fit together, a sentence each."""
    if args.shar is not None and (args.manifest is not None or args.tarred_audio_filepaths):
        return ["--shar is a data set of its own: leave --manifest and --tarred-audio-filepaths out"]
    return []


def read_speech(args: argparse.Namespace, require_text: bool = False):
    """The :class:`~nemo_oracle_kd.labelling.sources.SpeechSource` of the options.

    Args:
        args: the command line.
        require_text: refuse rows without a transcript.

    Raises:
        ValueError: data that cannot be used.
    """
    from nemo_oracle_kd.labelling.shar import shar_source
    from nemo_oracle_kd.labelling.sources import manifest_source, tarred_source

    if args.shar is not None:
        return shar_source(args.shar, require_text)
    if args.tarred_audio_filepaths:
        return tarred_source(args.manifest, args.tarred_audio_filepaths, require_text)
    return manifest_source(args.manifest, require_text)
