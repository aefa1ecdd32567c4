# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd check STUDENT TEACHER`: what a distillation would refuse, without training."""

import argparse

HELP = 'compare a student with a teacher and say what stands in the way of distillation'

EPILOG = """example:
  nemo-oracle-kd check student.nemo teacher.nemo --objectives frame_kl guided_ctc
  nemo-oracle-kd check student.nemo teacher.nemo --objectives full_sum --manifest train.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('student', metavar='STUDENT', help='.nemo file or pretrained name of the model to be trained')
    parser.add_argument('teacher', metavar='TEACHER', help='.nemo file or pretrained name of the teacher')
    parser.add_argument(
        '--objectives',
        nargs='+',
        default=['frame_kl'],
        metavar='NAME',
        help='objectives to check for (default: frame_kl); what they compare decides which differences matter',
    )
    parser.add_argument(
        '--time-resampling',
        default='none',
        choices=['none', 'nearest', 'linear'],
        help="how the teacher's frames would be brought to the student's rate (default: none)",
    )
    parser.add_argument(
        '--manifest',
        metavar='TRAIN',
        help='training manifest: also check that both models can write its texts, as sequence objectives need, and, where it '
        'holds scores, that they are complete and this teacher\'s',
    )


def run(args: argparse.Namespace) -> int:
    """Prints the comparison; 0 if the distillation can run, 1 if not."""
    from nemo_oracle_kd.errors import ConfigError, unknown_name
    from nemo_oracle_kd.losses.objectives import OBJECTIVES, objectives_of

    ConfigError.raise_if_any(
        unknown_name('objective', name, OBJECTIVES) for name in args.objectives if name not in OBJECTIVES
    )
    from nemo_oracle_kd.bridge.model import describe
    from nemo_oracle_kd.bridge.restore import check_source, restore_frozen
    from nemo_oracle_kd.distillation.compatibility import compare, loss_problems
    from nemo_oracle_kd.distillation.families.lattice import lattice_problems

    for source in (args.student, args.teacher):
        check_source(source)
    student, teacher = (restore_frozen(source) for source in (args.student, args.teacher))
    report = compare(describe(student), describe(teacher), args.objectives, args.time_resampling)
    report.problems += loss_problems(student, args.objectives)
    lattice = {name: OBJECTIVES[name][0]() for name in objectives_of('lattice', args.objectives)}
    if lattice:
        report.problems += lattice_problems(student, teacher, lattice, args.time_resampling)
    if args.manifest and objectives_of('sequence', args.objectives):
        report.problems += _manifest_problems(student, teacher, args.manifest, args.objectives)
    print(report)
    print('not possible as it stands' if report.problems else f'ready to distil {", ".join(args.objectives)}')
    return 1 if report.problems else 0


def _manifest_problems(student, teacher, manifest: str, objectives: list) -> list:
    """What keeps one of the models from writing the training texts, and what is wrong with scores that the manifest holds."""
    from nemo_oracle_kd.bridge.model import find_head
    from nemo_oracle_kd.bridge.vocabulary import TextCodec
    from nemo_oracle_kd.corpus.manifest import read_manifest
    from nemo_oracle_kd.distillation.data.stored_scores import StoredScores
    from nemo_oracle_kd.distillation.data.texts import check_nbest_texts, check_training_texts
    from nemo_oracle_kd.errors import ConfigError
    from nemo_oracle_kd.labelling.format import LOG_PROB_KEY, model_fingerprint
    from nemo_oracle_kd.losses.objectives import OBJECTIVES, objectives_of

    rows = read_manifest(manifest, check_audio=False)
    codecs = [TextCodec(model, find_head(model).vocabulary) for model in (student, teacher)]
    train_ds, of_lists = {'manifest_filepath': manifest}, 'full_sum_norm' in objectives
    reads_scores = any(name != 'hard' for name in objectives_of('sequence', objectives))

    def check_scores():
        if of_lists or (reads_scores and any(LOG_PROB_KEY in row for row in rows)):
            StoredScores(train_ds, str(model_fingerprint(teacher)), needs_nbest=of_lists, needs_scores=True)
        if of_lists:  # lists that were found complete
            check_nbest_texts(train_ds, codecs[0], OBJECTIVES['full_sum_norm'][0]().nbest)

    problems = []
    for check in (lambda: check_training_texts(train_ds, *codecs), check_scores):
        try:
            check()
        except ConfigError as error:
            problems += error.messages
    return problems
