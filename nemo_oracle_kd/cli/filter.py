# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd filter`: keeps the pseudo-labels that an expression accepts, or stores measures of them as weights."""

import argparse

HELP = 'keep the pseudo-labels of a scored manifest that an expression accepts'

EPILOG = """examples:
  nemo-oracle-kd filter scored.jsonl --output kept.jsonl --keep "nll_per_token < quantile(0.8) and repetition < 0.5"
  nemo-oracle-kd filter scored.jsonl --other second=second.jsonl --output kept.jsonl --keep "wer(second) < 0.1" \\
      --report filter.html
  nemo-oracle-kd filter scored.jsonl --other second=second.jsonl --output weighed.jsonl --store "agreement=1 - wer(second)"

measures: nll_per_token, nll, tokens, entropy, margin (N-best list); wer(NAME), cer(NAME) with a name of --other or
reference; duration, words, characters, words_per_second, characters_per_second; repetition, compression_ratio;
imported: confidence, no_speech_prob, field(KEY), and language, as in language == "en".
Numbers are compared by < <= > >= == != with each other or with quantile(SHARE); + - * / and or not ( ) as in Python.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('scored', metavar='SCORED.jsonl', help='scored manifest, with its header')
    parser.add_argument(
        '--output', required=True, metavar='KEPT.jsonl', help='scored manifest of the rows that are kept'
    )
    parser.add_argument('--keep', metavar='EXPRESSION', help='which rows are kept')
    parser.add_argument(
        '--other',
        action='append',
        default=[],
        metavar='NAME=OTHER.jsonl',
        help='other texts of the same utterances, for wer(NAME) and cer(NAME); may be repeated',
    )
    parser.add_argument(
        '--store',
        action='append',
        default=[],
        metavar='NAME=EXPRESSION',
        help='write a number into the `teacher_fields` of each kept row, for `confidence: {field: NAME}`; may be repeated',
    )
    parser.add_argument('--report', metavar='PAGE.html', help='page with pictures, and examples at each threshold')
    parser.add_argument('--overwrite', action='store_true', help='replace existing outputs')


def run(args: argparse.Namespace) -> int:
    """Filters, and prints what was kept."""
    from nemo_oracle_kd.corpus.manifest import read_manifest
    from nemo_oracle_kd.corpus.outputs import write_text_atomically
    from nemo_oracle_kd.errors import ConfigError
    from nemo_oracle_kd.evaluation.filter_report import FilterReport
    from nemo_oracle_kd.labelling.files import check_new_output
    from nemo_oracle_kd.labelling.filtering import Selection, read_scored, select, store_measures, write_selection
    from nemo_oracle_kd.labelling.measures import Measures

    if args.keep is None and (not args.store or args.report):
        raise ConfigError(
            "--keep is missing: say which rows are kept, or store a measure alone with --store and no --report"
        )
    others, wanted = _named(args.other, '--other'), _named(args.store, '--store')
    check_new_output(args.output, [args.scored, *others.values()], args.overwrite, report=args.report)
    rows, _ = read_scored(args.scored)
    measures = Measures(rows, {name: read_manifest(path, check_audio=False) for name, path in others.items()})
    kept = Selection([True] * len(rows), [''] * len(rows), [])
    selection = kept if args.keep is None else select(measures, args.keep)
    if not any(selection.kept):
        raise ConfigError(f"`{args.keep}` keeps none of the {len(rows)} rows: loosen it, or use a quantile")
    chosen = [index for index, keep in enumerate(selection.kept) if keep]
    rows = store_measures(measures, wanted, chosen)
    settings = {'keep': args.keep, 'store': wanted, 'others': others}
    write_selection(args.output, args.scored, settings, rows, selection)
    report = FilterReport(measures, selection, args.keep or '')
    if args.report is not None:
        write_text_atomically(args.report, report.page())
    for line in report.lines():
        print(line)
    print(f'{args.output}: {sum(selection.kept)} rows' + (f'; pictures in {args.report}' if args.report else ''))
    return 0


def _named(values: list[str], option: str) -> dict[str, str]:
    """The `NAME=VALUE`s of an option."""
    from nemo_oracle_kd.errors import ConfigError

    found: dict[str, str] = {}
    for value in values:
        name, sign, content = value.partition('=')
        name = name.strip()
        if not sign or not name.isidentifier() or not content.strip():
            raise ConfigError(
                f"{option} {value} is not NAME=...: write a name of letters, digits and _, a = and the rest"
            )
        if name in found or name == 'reference':
            raise ConfigError(
                f"{option} names {name} twice: choose another name"
                if name in found
                else f"{option}: the name reference is taken by `reference_text`: choose another"
            )
        found[name] = content.strip()
    return found
