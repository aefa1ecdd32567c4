# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Compares students, alone and distilled, on real speech: CMU AN4, character CTC, greedy decoding, no language model.

    python examples/an4/run.py --data DIR --test TEST.jsonl --out OUT --seeds 0 1 2

`--data` is a folder with the NeMo manifests `train.jsonl` and `dev.jsonl`; `--test` is any manifest. Writes
`OUT/results.json`, `OUT/report.html` and the models `OUT/seed_N/NAME.nemo`. docs/experiments/an4.md also lists what was tried
and failed. An interrupted run continues where it stopped.
"""

import argparse

from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.evaluation.report import Report
from nemo_oracle_kd.experiments.comparison import print_table
from nemo_oracle_kd.experiments.ctc_comparison import Where, compare_and_report
from nemo_oracle_kd.experiments.ctc_plan import Plan, Student, speed_job
from nemo_oracle_kd.experiments.recipe_arguments import (
    add_data_arguments,
    add_run_arguments,
    one_sentence,
    positive,
)

FRAME_KL = ['oracle_kd.objectives.frame_kl.weight=1.2', 'oracle_kd.objectives.frame_kl.temperature=2.0']
OCCUPANCY = ['oracle_kd.objectives.occupancy.weight=0.5']
STUDENTS = {
    'student_alone': Student(),
    'student_from_conventional_teacher': Student('conventional_teacher', 'frame_kl', FRAME_KL),
    'student_from_oracle_teacher': Student('oracle_teacher', 'frame_kl', FRAME_KL),
    'student_guided_ctc': Student('oracle_teacher', 'guided_ctc'),
    'student_occupancy': Student('conventional_teacher', 'occupancy', OCCUPANCY),
    'student_oracle_occupancy': Student('oracle_teacher', 'occupancy', OCCUPANCY),
    'student_one_stage': Student(preset='oracle_self'),
}


def make_parser() -> argparse.ArgumentParser:
    """Declares the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_arguments(parser)
    add_run_arguments(parser)
    parser.add_argument(
        '--updates', type=positive, default=640, help='optimizer steps of every student (default: 640)'
    )
    parser.add_argument(
        '--teacher-seconds', type=float, default=300, help='training seconds of each teacher (default: 300)'
    )
    return parser


def main() -> None:
    """Runs the comparison."""
    parser = make_parser()
    args = parser.parse_args()
    with one_sentence(parser):
        run(args)


def run(args: argparse.Namespace) -> None:
    """Makes the data, trains, scores and writes the report."""
    out = args.out.resolve()
    train, dev, test = (path.resolve() for path in (args.data / 'train.jsonl', args.data / 'dev.jsonl', args.test))
    for manifest in (train, dev, test):
        read_manifest(manifest)  # a bad manifest is reported now, in one sentence, and not by a job
    out.mkdir(parents=True, exist_ok=True)
    speeds = speed_job(train, out / 'data')
    report = Report(
        title='Oracle distillation on AN4',
        results={},
        lead=(
            'A small speech recogniser learns from a teacher that was allowed to read the transcript while it listened. This '
            'page shows what that bought, against the same student alone and taught by an ordinary teacher.'
        ),
        story=[
            'A teacher that hears the audio and reads the transcript knows what was said and only has to find out when. Its '
            'frame posteriors are taught to a small CTC model, which at test time has the audio alone.',
            f'Both teachers were trained for the same {args.teacher_seconds:g} seconds, on three speeds of every recording. All '
            f'students are the same network, trained for the same {args.updates} updates on the recordings as they are; they '
            'differ only in what is added to their loss. Decoding is greedy, without a language model.',
        ],
        settings={'corpus': 'CMU AN4', 'objective': 'frame KL, temperature 2, weight 1.2', 'seeds': args.seeds},
        commands=[
            'python examples/an4/run.py --data DIR --test TEST.jsonl --out OUT --seeds '
            + ' '.join(str(seed) for seed in args.seeds),
            'nemo-oracle-kd diagnose OUT/seed_0/oracle_teacher.nemo --manifest DIR/dev.jsonl',
        ],
    )
    plan = Plan(STUDENTS, updates=args.updates, teacher_seconds=args.teacher_seconds)
    data = {'train': train, 'teacher_train': out / 'data' / 'train.jsonl', 'dev': dev, 'test': test}
    results = compare_and_report(plan, Where(data, out, args.seeds, args.parallel, [speeds]), report)
    print_table(results)
    print(f'results: {out / "results.json"}\nreport:  {out / "report.html"}')


if __name__ == '__main__':
    main()
