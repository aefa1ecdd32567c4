# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The recipe of scene text: its command lines, its joined test sets and its shares of right words."""

import json
from pathlib import Path

import pytest
import tiny_pictures
from load_script import load_script
from omegaconf import OmegaConf
from recipes import composed

from nemo_oracle_kd.cli.main import make_parser
from nemo_oracle_kd.experiments.ctc_comparison import Where
from nemo_oracle_kd.experiments.train import model_class


@pytest.fixture(scope='module')
def recipe():
    return load_script('examples/scene_text/run.py')


def planned(recipe, folder, *options):
    """Plan, jobs of the starts, and trainings of seed 3 as the recipe makes them."""
    manifest = tiny_pictures.write_words(folder, count=2)
    words = ['--data', str(folder), '--test', str(manifest), '--out', str(folder / 'out'), *options]
    args = recipe.make_parser().parse_args(words)
    plan = recipe.make_plan(args, folder / 'words.jsonl' if args.synthetic else None)
    data = {'train': manifest, 'dev': manifest}
    runs = {run.name: run for run in plan.runs(data, folder / 'out', [3])}
    return plan, plan.start_jobs(manifest, folder / 'out'), runs


@pytest.mark.integration
@pytest.mark.parametrize('synthetic', [0, 50])
def test_every_command_composes_with_configs_of_pictures_and_all_start_alike(synthetic, recipe, tmp_path):
    options = ['--synthetic', str(synthetic), '--updates', '40', '--teacher-seconds', '12']
    options += ['--oracle-overrides', 'model.oracle.audio_only_steps=7', '--teacher-overrides', 'model.optim.lr=0.001']
    plan, starts, runs = planned(recipe, tmp_path, *options)
    assert set(runs) == {recipe.ALONE, *recipe.DEFAULT, 'conventional_teacher', 'oracle_teacher'}
    models = {job.name.split('/')[1]: str(job.outputs[0]) for job in starts}
    assert list(models) == (['student', 'teacher'] if synthetic else [])
    for name, run in runs.items():
        cfg = composed(run)
        assert model_class(cfg.model).__name__ == f'EncDec{"Oracle" * (name == "oracle_teacher")}PictureCTCModel'
        assert ('oracle_kd' in cfg) == (name in recipe.DEFAULT)
        if name.endswith('teacher') and 'student' not in name:
            assert cfg.trainer.callbacks[1].seconds == 12 and cfg.model.optim.lr == 0.001
            key = 'model.oracle.init_audio_encoder_from' if name == 'oracle_teacher' else 'init_from_nemo_model'
            assert OmegaConf.select(cfg, key) == models.get('teacher')
        else:
            assert cfg.trainer.max_steps == 40 and cfg.get('init_from_nemo_model') == models.get('student')
    assert composed(runs['oracle_teacher']).model.oracle.audio_only_steps == 7
    controls = {control for control, system in plan.pairs() if system == 'student_one_stage'}
    assert controls == {recipe.ALONE, 'student_from_conventional_teacher', 'student_occupancy'}


def test_words_are_rendered_from_those_of_the_training_manifest(recipe, tmp_path):
    job = recipe.rendering_job(tmp_path / 'train.jsonl', tmp_path / 'words', 30)
    args = make_parser().parse_args(job.command[3:])
    assert (args.images, args.words, args.train) == (True, str(tmp_path / 'train.jsonl'), 30)
    assert Path(args.out) / 'train.jsonl' in job.outputs


def test_several_test_sets_are_scored_together_and_each_has_its_share_of_right_words(recipe, tmp_path, capsys):
    tests = [
        tiny_pictures.write_words(tmp_path, name, count, key='image_filepath')
        for name, count in (('svt', 3), ('ic', 2))
    ]
    joined = tmp_path / 'out' / 'data' / 'test.jsonl'
    recipe.join_tests(tests, joined)
    rows = [json.loads(line) for line in joined.read_text().splitlines()]
    assert [row['test_set'] for row in rows] == ['svt'] * 3 + ['ic'] * 2
    assert all(Path(row['image']).is_file() and 'image_filepath' not in row for row in rows)
    answers = {'student_alone': ['x', 'x', 'right', 'x', 'right'], 'student_one_stage': ['right'] * 4 + ['']}
    for seed in (0, 1):
        for system, said in answers.items():
            path = tmp_path / 'out' / f'seed_{seed}' / 'transcripts' / f'{system}.jsonl'
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = [{**row, 'text': 'right', 'pred_text': word} for row, word in zip(rows, said)]
            path.write_text(''.join(json.dumps(row) + '\n' for row in kept))
    shares = recipe.words_right(Where({}, tmp_path / 'out', [0, 1]), list(answers))
    assert shares['student_alone'] == {'all': [40.0] * 2, 'svt': [pytest.approx(100 / 3)] * 2, 'ic': [50.0] * 2}
    assert shares['student_one_stage']['all'] == [80.0] * 2
    recipe.print_words_right(shares)
    assert capsys.readouterr().out.splitlines()[2].split() == ['student_one_stage', '80.0', '100.0', '50.0']
