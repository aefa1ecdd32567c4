# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The recipe of the speed-up: its systems and command lines, and what it computes from their transcriptions."""

import argparse
import json
from pathlib import Path

import pytest
import tiny
from load_script import load_script
from recipes import composed

from nemo_oracle_kd.experiments.comparison import Comparison
from nemo_oracle_kd.experiments.jobs import fingerprints, order_jobs

OPTIONS = [
    '--budgets',
    '8',
    '4',
    '--updates',
    '40',
    '--one-stage-updates',
    '80',
    '--teacher-overrides',
    'model.width=24',
]
KINDS = (
    'student_from_conventional_teacher',
    'student_from_oracle_teacher',
    'student_occupancy',
    'student_oracle_occupancy',
)


@pytest.fixture(scope='module')
def recipe():
    return load_script('examples/speed_up/run.py')


def planned(recipe, folder, *options):
    """Arguments, plan and trainings of seed 1."""
    manifest = Path(tiny.write_tone_corpus(folder, 'train', 2))
    words = ['--data', str(folder), '--test', str(manifest), '--out', str(folder / 'out'), *OPTIONS, *options]
    args = recipe.make_parser().parse_args(words)
    plan = recipe.make_plan(args)
    return args, plan, plan.runs({'train': manifest, 'dev': manifest}, folder / 'out', [1])


@pytest.mark.integration
def test_every_command_composes_and_each_student_has_the_teacher_of_its_budget(recipe, tmp_path):
    runs = {run.name: run for run in planned(recipe, tmp_path)[2]}
    alone = {'student_alone', 'student_alone_80_updates', 'student_one_stage', 'student_one_stage_80_updates'}
    teachers = {f'{kind}_teacher_at_{seconds}' for kind in ('conventional', 'oracle') for seconds in (4, 8)}
    assert set(runs) == alone | teachers | {f'{kind}_at_{seconds}' for kind in KINDS for seconds in (4, 8)}
    for name, run in runs.items():
        cfg, seconds = composed(run), name.rsplit('_', 1)[1]
        if name in teachers:
            assert cfg.trainer.callbacks[1].seconds == int(seconds) and cfg.model.width == 24
            if 'oracle' in name:
                assert (
                    cfg.model.oracle.audio_only_steps == int(seconds) * 1.25 and cfg.model.oracle.start_below is None
                )
            continue
        assert cfg.trainer.max_steps == (80 if name.endswith('80_updates') else 40)
        if name not in alone:
            teacher = f'{"oracle" if "oracle" in name else "conventional"}_teacher_at_{seconds}'
            assert Path(cfg.oracle_kd.teacher.restore_from).name == f'{teacher}.nemo'
            assert run.job.depends == [f'seed_1/{teacher}']
            assert set(cfg.oracle_kd.objectives) == {'occupancy' if 'occupancy' in name else 'frame_kl'}
        else:
            assert ('oracle_kd' in cfg) == ('one_stage' in name)


@pytest.mark.integration
def test_the_same_curves_are_planned_for_words_in_pictures(recipe, tmp_path):
    runs = {
        run.name: run
        for run in planned(recipe, tmp_path, '--task', 'scene_text', '--teacher-overrides', 'model.optim.lr=0.001')[2]
    }
    assert set(runs) == {run.name for run in planned(recipe, tmp_path)[2]}
    classes = {name: composed(runs[name]).model.target.rsplit('.', 1)[1] for name in runs if name.endswith('_4')}
    assert classes['oracle_teacher_at_4'] == 'EncDecOraclePictureCTCModel'
    assert {value for name, value in classes.items() if 'oracle_teacher_at' not in name} == {'EncDecPictureCTCModel'}


@pytest.mark.integration
def test_models_to_start_from_are_named_in_the_commands_and_determine_the_outcome(recipe, tmp_path):
    models = {name: tmp_path / f'{name}.nemo' for name in ('student', 'teacher')}
    found = []
    for content in ('one', 'other'):
        for path in models.values():
            path.write_text(content)
        words = [word for name, path in models.items() for word in (f'--{name}-start', str(path))]
        runs = {run.name: run for run in planned(recipe, tmp_path, *words)[2]}
        found.append(fingerprints(order_jobs([run.job for run in runs.values()])))
    assert all(found[0][name] != found[1][name] for name in found[0])
    assert composed(runs['student_one_stage']).init_from_nemo_model == str(models['student'])
    assert composed(runs['conventional_teacher_at_4']).init_from_nemo_model == str(models['teacher'])
    assert composed(runs['oracle_teacher_at_4']).model.oracle.init_audio_encoder_from == str(models['teacher'])


@pytest.mark.unit
@pytest.mark.parametrize('budgets', [['5'], ['5', '5'], ['0', '5'], ['-1', '5']])
def test_budgets_that_make_no_curve_are_refused(recipe, budgets):
    with pytest.raises(ValueError, match=f'--budgets is .*{budgets[-1]}.*at least two numbers above 0'):
        recipe.budgets_of(argparse.Namespace(budgets=[float(one) for one in budgets]))


@pytest.mark.unit
@pytest.mark.parametrize('chosen, number', [([], 3), (['--objectives', 'frame_kl'], 1)])
def test_the_ratio_is_computed_from_the_transcriptions_and_the_figure_from_the_results(
    recipe, tmp_path, chosen, number
):
    args, plan, runs = planned(recipe, tmp_path, *chosen)
    budgets, kinds = recipe.budgets_of(args), recipe.kinds_of(args)
    comparison = Comparison(runs, args.test, args.out, pairs=recipe.make_pairs(plan, kinds, budgets))
    # per cent of wrong words: both lose 20 points when the seconds are doubled, and the oracle's students are 10 points ahead
    wrong = {'conventional': {4: 60, 8: 40}, 'oracle': {4: 50, 8: 30}}
    systems = {name: {'wer': [50.0], 'train_seconds': [7.0]} for name in comparison.names}
    for kind in kinds:
        for seconds in budgets:
            count = wrong['oracle' if 'oracle' in kind else 'conventional'][seconds]
            name = recipe.at(kind, seconds)
            rows = [
                {'text': 'yes', 'pred_text': 'no' if k < count else 'yes', 'audio_filepath': str(k)}
                for k in range(100)
            ]
            path = comparison.transcripts_path(name, 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
            systems[name]['wer'] = [float(count)]
    found = recipe.measure(comparison, {'systems': systems}, kinds, budgets)
    assert [(one['slow'], one['fast']) for one in found['ratios']] == recipe.RATIOS[:number]
    for one in found['ratios']:
        assert one['ratio'] == pytest.approx(2**0.5) and one['common'] == (40, 50) and one['sentence']
    oracle = found['curves']['student_from_oracle_teacher']
    assert [(one['teacher_seconds'], one['total_seconds'], one['wer']) for one in oracle] == [
        (4, 14, [50]),
        (8, 14, [30]),
    ]
    assert len(found['curves']['student_one_stage']) == len(found['curves']['student_alone']) == 2
    assert found['curves']['student_one_stage'][0] == {'wer': [50.0], 'total_seconds': 7.0, 'teacher_seconds': None}
    json.dumps(found)  # goes into results.json
