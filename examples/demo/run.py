# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs a whole distillation from scratch: a synthetic corpus, two teachers, four students and a report.

    python examples/demo/run.py --out demo_out

It synthesises a speech corpus without a download; trains a conventional teacher, and on its frozen encoder a label branch, which
makes an oracle teacher of it; trains the same student alone and distilled from each; scores all models; and writes
`OUT/report.html`. The trainings are the recipes of `examples/asr_ctc` with overrides. An interrupted run continues where it stopped.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from nemo_oracle_kd.evaluation.report import Report
from nemo_oracle_kd.experiments.comparison import print_table
from nemo_oracle_kd.experiments.ctc_comparison import Where, compare_and_report
from nemo_oracle_kd.experiments.ctc_plan import TEACHERS, Plan, Student
from nemo_oracle_kd.experiments.jobs import CLI, Job
from nemo_oracle_kd.experiments.recipe_arguments import one_sentence, positive

FRAME_KL = ['oracle_kd.objectives.frame_kl.weight=0.6', 'oracle_kd.objectives.frame_kl.temperature=2.0']
OCCUPANCY = ['oracle_kd.objectives.occupancy.weight=0.5']
STUDENTS = {
    'student_alone': Student(),
    'student_from_conventional_teacher': Student('conventional_teacher', 'frame_kl', FRAME_KL),
    'student_occupancy': Student('conventional_teacher', 'occupancy', OCCUPANCY),
    'student_from_oracle_teacher': Student('oracle_teacher', 'frame_kl', FRAME_KL),
}


def make_parser() -> argparse.ArgumentParser:
    """Declares the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('demo_out'), help='output folder (default: demo_out)')
    parser.add_argument('--seed', type=int, default=0, help='seed of corpus and trainings (default: 0)')
    parser.add_argument('--utterances', type=positive, default=1200, help='training utterances (default: 1200)')
    parser.add_argument(
        '--updates', type=positive, default=450, help='optimizer steps of every student (default: 450)'
    )
    parser.add_argument(
        '--teacher-seconds',
        type=float,
        default=180,
        help='training seconds of the conventional teacher (default: 180)',
    )
    parser.add_argument(
        '--branch-seconds',
        type=float,
        default=45,
        help='further seconds for the label branch that makes an oracle teacher of it (default: 45)',
    )
    parser.add_argument(
        '--parallel', type=positive, default=2, help='trainings at a time, one thread each (default: 2)'
    )
    return parser


def main() -> None:
    """Runs the demo."""
    parser = make_parser()
    args = parser.parse_args()
    with one_sentence(parser):
        run(args)


def plan_of(args: argparse.Namespace) -> Plan:
    """What the demo trains: an oracle teacher that learned to hear and to read from nothing would need more seconds than it has."""
    branch = replace(TEACHERS['oracle_teacher'], seconds=args.branch_seconds, encoder_of='conventional_teacher')
    return Plan(STUDENTS, args.updates, args.teacher_seconds, teachers={**TEACHERS, 'oracle_teacher': branch})


def run(args: argparse.Namespace) -> None:
    """Makes the corpus, trains, scores and writes the report."""
    started = time.monotonic()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    corpus = out / 'corpus'
    command = [*CLI, 'synthesize', str(corpus)]
    sizes = ['--train', str(args.utterances), '--dev', '100', '--test', '200', '--seed', str(args.seed)]
    synthesis = Job(
        'corpus',
        [*command, *sizes],
        outputs=[corpus / f'{part}.jsonl' for part in ('train', 'dev', 'test')],
        scratch=[corpus],
    )
    report = Report(
        title='Oracle distillation, from nothing',
        results={},
        lead=(
            'A small speech recogniser learns from a teacher that was allowed to read the transcript while it listened. '
            'Everything on this page was made by one command, the corpus included.'
        ),
        story=[
            'A teacher that hears the audio and reads the transcript knows what was said and only has to find out when. Its '
            'frame posteriors are taught to a small CTC model, which at test time has the audio alone.',
            f'The corpus is synthetic speech: {args.utterances} training utterances of digits, spelled names, dates and '
            'commands, with noise and reverberation; voices and accents of the test set do not occur in training. The '
            f'conventional teacher was trained for {args.teacher_seconds:g} seconds. The oracle teacher is the same network, '
            f'frozen, with a label branch that was trained for {args.branch_seconds:g} seconds more. All students had the same '
            f'{args.updates} updates; they differ only in what is added to their loss. There is one seed: the intervals cover '
            'the choice of test utterances, but not the variation between trainings.',
        ],
        settings={
            'corpus': 'synthesised with eSpeak NG',
            'objectives': 'frame KL, temperature 2, weight 0.6; occupancy, weight 0.5',
            'branch_seconds': args.branch_seconds,
        },
        commands=[
            'make demo',
            f'nemo-oracle-kd diagnose {args.out}/seed_{args.seed}/oracle_teacher.nemo --manifest '
            f'{args.out}/corpus/dev.jsonl',
        ],
    )
    plan = plan_of(args)
    data = {part: corpus / f'{part}.jsonl' for part in ('train', 'dev', 'test')}
    results = compare_and_report(plan, Where(data, out, [args.seed], args.parallel, [synthesis]), report)
    print_table(results)
    print(f'report: {out / "report.html"}  ({(time.monotonic() - started) / 60:.1f} minutes)')


if __name__ == '__main__':
    main()
