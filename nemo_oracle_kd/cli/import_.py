# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd import`: takes over the texts and log-probabilities that another recogniser wrote."""

import argparse

HELP = "import another recogniser's texts and scores into a scored manifest"

EPILOG = """examples:
  nemo-oracle-kd import whisper.jsonl --manifest speech.jsonl --output scored.jsonl --alphabet student.nemo
  nemo-oracle-kd import nbest.jsonl --manifest speech.jsonl --output scored.jsonl --score sum --log-base e
  nemo-oracle-kd import text --scores-file score --manifest speech.jsonl --output scored.jsonl \\
      --score mean --log-base 10 --length words
  nemo-oracle-kd import hyp.ctm --manifest speech.jsonl --output scored.jsonl --score confidence
  nemo-oracle-kd import pipeline.jsonl --manifest speech.jsonl --output scored.jsonl --texts-only

An import that was interrupted continues when it is started again with the same arguments.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        'hypotheses', metavar='HYPOTHESES', help='file, or folder of JSON files named after their audio'
    )
    parser.add_argument('--manifest', required=True, metavar='IN.jsonl', help='NeMo manifest of the speech')
    parser.add_argument('--output', required=True, metavar='OUT.jsonl', help='scored manifest to write')
    parser.add_argument('--overwrite', action='store_true', help='replace the output, or restart an unfinished import')
    parser.add_argument('--name', help='name of the recogniser: files imported under one name count as one teacher')

    file = parser.add_argument_group('the file')
    file.add_argument(
        '--format',
        choices=['jsonl', 'kaldi', 'ctm', 'whisper', 'huggingface'],
        help='default: by the ending of the name and the keys of the first row',
    )
    file.add_argument('--scores-file', metavar='FILE', help='`ID LOG_PROB` in each line, for Kaldi and CTM')
    file.add_argument(
        '--nbest-ids', action='store_true', help='ids of Kaldi end in -1, -2, ...: texts of one utterance'
    )
    file.add_argument('--id-key', metavar='KEY', help='key of the name in JSON (default: id, else audio_filepath)')
    file.add_argument('--text-key', metavar='KEY', help='key of the text in JSON (default: pred_text, else text)')
    file.add_argument('--fields', nargs='+', default=[], metavar='KEY', help='further keys of JSON to keep')

    scores = parser.add_argument_group('what the scores mean')
    scores.add_argument(
        '--score',
        choices=['sum', 'mean', 'confidence'],
        help='log-probabilities are sums over the tokens or their means, or the words have confidences to multiply',
    )
    scores.add_argument('--log-base', choices=['e', '10', '2'], help='base of the logarithms')
    scores.add_argument(
        '--length',
        metavar='UNIT',
        help='what a score covers: tokens, tokens+1 (with the end of the text), words, characters, or a key of JSON',
    )
    scores.add_argument(
        '--score-key', metavar='KEY', help='key in JSON (default: log_prob, else token_log_probs, a list)'
    )
    scores.add_argument('--costs', action='store_true', help='the file holds -log P')
    scores.add_argument('--texts-only', action='store_true', help='write no scores; the objective hard needs none')

    texts = parser.add_argument_group('texts')
    texts.add_argument(
        '--normalizer',
        default='whisper-basic',
        choices=['whisper-basic', 'whisper-english', 'nemo', 'none'],
        help='rules for the texts; nemo writes numbers as words and needs nemo_text_processing (default: whisper-basic)',
    )
    texts.add_argument('--language', default='en', metavar='XX', help='language of the rules of nemo (default: en)')
    texts.add_argument('--alphabet', metavar='LABELS', help="the student's .nemo file, or its labels as one string")

    skip = parser.add_argument_group('rows to leave out instead of refusing the file')
    skip.add_argument('--skip-missing', action='store_true', help='rows of the manifest without a text')
    skip.add_argument('--skip-unknown', action='store_true', help='texts of utterances that are not in the manifest')
    skip.add_argument('--skip-empty', action='store_true', help='empty texts')
    skip.add_argument('--skip-unwritable', action='store_true', help='texts outside the alphabet')


def run(args: argparse.Namespace) -> int:
    """Imports, and prints what was changed, kept and dropped."""
    from pathlib import Path

    from nemo_oracle_kd.corpus.manifest import check_manifest_path
    from nemo_oracle_kd.errors import ConfigError
    from nemo_oracle_kd.labelling.files import check_output
    from nemo_oracle_kd.labelling.hypotheses import HypothesisFile
    from nemo_oracle_kd.labelling.imports import SKIPS, ImportPlan, import_hypotheses
    from nemo_oracle_kd.labelling.normalisation import Alphabet, Normaliser
    from nemo_oracle_kd.labelling.score_reading import ScoreReading

    file = HypothesisFile(
        path=Path(args.hypotheses),
        format=args.format,
        scores=None if args.scores_file is None else Path(args.scores_file),
        nbest_ids=args.nbest_ids,
        id_key=args.id_key,
        text_key=args.text_key,
        more_fields=tuple(args.fields),
    )
    said = ScoreReading(args.score, args.log_base, args.length, args.costs, args.score_key, args.texts_only)
    reading, problems = ScoreReading.stated(said, file.format, file.scores is not None)
    ConfigError.raise_if_any(problems)
    check_manifest_path(args.manifest)
    inputs = [args.manifest, *file.files, args.alphabet]
    check_output(args.output, inputs, args.overwrite)  # before the slow start of NeMo
    alphabet = None if args.alphabet is None else Alphabet(args.alphabet)
    plan = ImportPlan(
        file,
        reading,
        Normaliser(args.normalizer, alphabet, args.language),
        frozenset(kind for kind in SKIPS if getattr(args, f'skip_{kind}')),
        args.name,
    )
    print(f'{args.hypotheses}: read as {file.format}')
    report, changes = import_hypotheses(plan, args.manifest, args.output, args.overwrite)
    for line in ['nothing left to import'] if changes is None else changes.lines():
        print(line)
    for reason, count in report.dropped.items():
        print(f'dropped {count} rows: {reason}')
    print(f'{args.output}: {report.rows} rows')
    return 0
