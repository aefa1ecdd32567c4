# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd diagnose`: does an oracle teacher listen, or does it copy the transcript that it reads?"""

import argparse

from nemo_oracle_kd.cli._device import add_device_argument, check_device

HELP = 'measure whether an oracle teacher listens or copies its transcript'

EPILOG = """example:
  nemo-oracle-kd diagnose oracle.nemo --manifest dev.jsonl --output diagnosis

writes diagnosis/diagnosis.json and diagnosis/attention.png and prints a table with a verdict:
  listens            fit for distillation: what it emits and scores depends on the audio
  partly             relies on the text where the audio is unclear, or there are too few utterances to tell
  copies             emits the text that it reads, whatever the audio holds
  inconclusive       emits neither what it reads nor what it hears (untrained), or far too few utterances
  ignores the text   its loss does not depend on the transcript: it is an ordinary model
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('teacher', metavar='TEACHER', help='.nemo file of an oracle teacher')
    parser.add_argument('--manifest', required=True, metavar='M', help='NeMo manifest with text, not seen in training')
    parser.add_argument(
        '--output', default='diagnosis', metavar='DIR', help='where the results go (default: diagnosis)'
    )
    parser.add_argument(
        '--audio-model',
        metavar='X.nemo',
        help="audio-only CTC model or transducer to compare spikes with (default: the teacher's audio branch)",
    )
    parser.add_argument('--batch-size', type=int, default=8, metavar='N', help='utterances at a time (default: 8)')
    parser.add_argument('--overwrite', action='store_true', help='replace the results of an earlier run')
    parser.add_argument('--limit', type=int, metavar='N', help='use the first N utterances only')
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Measures, prints the table, writes JSON and picture; 0 whatever the verdict."""
    import json
    from pathlib import Path

    for name in ('batch_size', 'limit'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(args, name)}")
    check_device(args.device)
    from nemo_oracle_kd.corpus.manifest import check_manifest_path
    from nemo_oracle_kd.corpus.outputs import check_outputs, write_text_atomically

    check_manifest_path(args.manifest)
    output = Path(args.output)
    results, picture = output / 'diagnosis.json', output / 'attention.png'
    check_outputs(
        {'--output': results, 'the picture': picture},
        [args.teacher, args.audio_model, args.manifest],
        args.overwrite,
    )
    from nemo_oracle_kd.bridge.restore import check_source, restore_frozen

    for source in filter(None, (args.teacher, args.audio_model)):
        check_source(source)

    from nemo_oracle_kd.errors import ConfigError
    from nemo_oracle_kd.evaluation.diagnosis.attention_picture import save_attention_picture
    from nemo_oracle_kd.evaluation.diagnosis.diagnosis import diagnose
    from nemo_oracle_kd.evaluation.diagnosis.utterances import read_utterances

    teacher = restore_frozen(args.teacher, args.device)
    if not getattr(teacher, 'reads_transcript', False):
        kind = type(teacher).__name__
        raise ConfigError(f"'{args.teacher}' is a {kind}, which reads no transcript: give an oracle teacher")
    audio_model = restore_frozen(args.audio_model, args.device) if args.audio_model else None
    utterances = read_utterances(teacher, args.manifest, args.limit)
    diagnosis = diagnose(teacher, utterances, args.batch_size, audio_model)

    record = {
        'teacher': args.teacher,
        'manifest': args.manifest,
        'audio_model': args.audio_model,
        **diagnosis.as_dict(),
    }
    write_text_atomically(results, json.dumps(record, indent=2) + '\n')
    print(table(diagnosis))
    if diagnosis.examples:
        save_attention_picture(diagnosis.examples, picture, diagnosis.verdict)
    print(f"\nwritten: {results}" + (f", {picture}" if diagnosis.examples else ''))
    return 0


def table(diagnosis) -> str:
    """Formats the measures and the verdict as text."""
    from nemo_oracle_kd.evaluation.diagnosis.conditions import CONDITIONS
    from nemo_oracle_kd.evaluation.diagnosis.verdict import HEARD_SHARES

    say = diagnosis.say  # before texts are padded to their columns
    lines = [
        f"{diagnosis.utterances} utterances",
        '',
        f"{'condition':<26}{'loss per label':>15}{say('WER to spoken'):>15}{'WER to given':>15}",
    ]
    for name, condition in diagnosis.conditions.items():
        given = '' if condition.wer_given is None else f'{condition.wer_given:.1f}'
        lines.append(f'{say(CONDITIONS[name]):<26}{condition.loss:>15.3f}{condition.wer_spoken:>15.1f}{given:>15}')
    lines += ['', f"{say('how much of the text is heard'):<44}{'share':>8}  95 % interval"]
    for name, share in diagnosis.heard.items():
        value, interval = '-', 'no better than chance'
        if share.value is not None:
            value = f'{round(100 * share.value)} %'
            interval = f'{round(100 * share.low)} to {round(100 * share.high)}'
        lines.append(f'{say(HEARD_SHARES[name]):<44}{value:>8}  {interval}')
    lines.append('')
    if diagnosis.spike_distance_ms is not None:
        lines.append(
            f"spikes: {diagnosis.spike_distance_ms:.0f} ms from the {diagnosis.spike_reference} on average, median "
            f"shift {diagnosis.spike_shift_ms:+.0f} ms"
        )
    if diagnosis.attention_monotonicity is not None:
        lines.append(
            f"cross-attention: rank correlation with time {diagnosis.attention_monotonicity:.2f} "
            f"(silent audio {diagnosis.attention_monotonicity_silent:.2f}), attention to the emitted label in "
            f"{100 * diagnosis.attention_hit_rate:.0f} % of the spikes; this is no evidence of listening"
        )
    lines += ['', f'verdict: {diagnosis.verdict}', *(f'  - {reason}' for reason in diagnosis.reasons)]
    if diagnosis.caution:
        lines.append(f'caution: {diagnosis.caution}')
    return say('\n'.join(lines))
