# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The recipe of read English: what its command lines say, and that every system starts from its checkpoint."""

from pathlib import Path

import pytest
import tiny
from load_script import load_script
from omegaconf import OmegaConf
from recipes import composed

from nemo_oracle_kd.experiments.ctc_plan import Plan, Student, Teacher
from nemo_oracle_kd.experiments.jobs import order_jobs

OPTIONS = ['--updates', '40', '--long-updates', '160', '--teacher-seconds', '12', '--width', '16']
OPTIONS += ['--student-overrides', 'model.optim.lr=0.002', '--teacher-overrides', 'model.optim.lr=0.003']


@pytest.fixture(scope='module')
def recipe():
    return load_script('examples/read_english/run.py')


def planned(recipe, folder, *options):
    """Plan, jobs of the starts, and trainings of seed 3 as the recipe makes them."""
    manifest = Path(tiny.write_tone_corpus(folder, 'train', 2))
    words = ['--data', str(folder), '--test', str(manifest), '--out', str(folder / 'out'), *OPTIONS, *options]
    args = recipe.make_parser().parse_args(words)
    plan = recipe.make_plan(args, folder / 'synthetic.jsonl')
    data = {'train': manifest, 'teacher_train': folder / 'speeds.jsonl', 'dev': manifest}
    runs = {run.name: run for run in plan.runs(data, folder / 'out', [3])}
    return plan, plan.start_jobs(manifest, folder / 'out'), runs


@pytest.mark.integration
def test_every_command_composes_and_every_system_starts_from_the_checkpoint_of_its_kind(recipe, tmp_path):
    _, starts, runs = planned(recipe, tmp_path)
    models = {job.name.split('/')[1]: str(job.outputs[0]) for job in starts}
    assert list(models) == ['student', 'causal_student', 'teacher']
    assert set(runs) == {*recipe.STUDENTS, 'conventional_teacher', 'oracle_teacher'}
    for name, run in runs.items():
        cfg = composed(run)
        if name in recipe.TEACHERS:
            key = 'model.oracle.init_audio_encoder_from' if name == 'oracle_teacher' else 'init_from_nemo_model'
            assert OmegaConf.select(cfg, key) == models['teacher'] and cfg.model.width == 160
            assert cfg.trainer.callbacks[1].seconds == 12 and cfg.model.optim.lr == 0.003
            assert cfg.model.train_ds.manifest_filepath == str(tmp_path / 'speeds.jsonl')
            continue
        student = recipe.STUDENTS[name]
        assert cfg.init_from_nemo_model == models['causal_student' if 'causal' in name else 'student']
        assert {block.get('future_context') for block in cfg.model.encoder.jasper} == (
            {0} if student.network else {None}
        )
        assert bool(student.network) == ('causal' in name)
        assert cfg.trainer.max_steps == (160 if name == 'student_alone_long' else 40)
        assert cfg.model.optim.lr == 0.002 and cfg.model.width == 16
        assert ('oracle_kd' in cfg) == ('alone' not in name)
        if student.teacher:
            assert Path(cfg.oracle_kd.teacher.restore_from).name == f'{student.teacher}.nemo'
            assert f'seed_3/{student.teacher}' in run.job.depends
            assert set(cfg.oracle_kd.objectives) == {student.preset}
            assert (cfg.oracle_kd.teacher.delay.mode == 'estimate') == (name == 'student_causal_shifted')


@pytest.mark.integration
def test_validations_grow_with_the_updates(recipe, tmp_path):
    runs = planned(recipe, tmp_path, '--systems', 'student_alone_long')[2]
    intervals = {name: composed(run).trainer.val_check_interval for name, run in runs.items()}
    assert intervals == {'student_alone': 5, 'student_alone_long': 5}


@pytest.mark.unit
def test_what_the_chosen_systems_do_not_need_is_not_trained(recipe, tmp_path):
    plan, starts, runs = planned(recipe, tmp_path, '--systems', 'student_one_stage')
    assert set(runs) == {'student_alone', 'student_one_stage'}
    assert [job.name for job in starts] == ['starts/student']
    plan, starts, runs = planned(recipe, tmp_path, '--systems', 'student_oracle_occupancy')
    assert set(runs) == {'oracle_teacher', 'student_alone', 'student_oracle_occupancy'}
    assert [job.name for job in starts] == ['starts/student', 'starts/teacher']


@pytest.mark.unit
def test_students_that_an_oracle_teaches_are_compared_with_all_others_of_their_network(recipe, tmp_path):
    pairs = planned(recipe, tmp_path)[0].pairs()
    controls = {'student_alone', 'student_alone_long', 'student_from_conventional_teacher', 'student_occupancy'}
    taught = 'student_from_oracle_teacher', 'student_oracle_occupancy', 'student_one_stage', 'student_one_stage_cr'
    for name in taught:
        assert {control for control, system in pairs if system == name} == {*controls, 'student_cr'}
    causal = [pair for pair in pairs if 'causal' in pair[1]]
    controls = ('student_causal_alone', 'student_causal_shifted')
    assert causal == [(control, 'student_causal_one_stage') for control in controls]


@pytest.mark.unit
def test_the_synthetic_corpus_is_made_of_the_words_of_the_training_manifest(recipe, tmp_path):
    from nemo_oracle_kd.cli.main import make_parser

    job = recipe.synthesis_job(tmp_path / 'train.jsonl', tmp_path / 'synthetic', 30)
    args = make_parser().parse_args(job.command[3:])
    assert (args.words, args.kinds, args.train) == (str(tmp_path / 'train.jsonl'), ['sentences'], 30)
    assert job.inputs == [tmp_path / 'train.jsonl'] and order_jobs([job]) == [job]


@pytest.mark.unit
@pytest.mark.parametrize(
    'students, teachers, message',
    [
        ({'a': Student('nobody', 'frame_kl')}, {}, "a names the teacher 'nobody': choose one of none, or add it"),
        ({'a': Student(start='x')}, {}, "a names the start 'x'"),
        ({'a': Student()}, {'t': Teacher('ctc/separable_ctc_char', start='y')}, "t names the start 'y'"),
        ({'a': Student()}, {'t': Teacher('oracle_ctc/oracle_t', encoder_of='u')}, "t names the encoder_of 'u'"),
        (
            {'a': Student()},
            {'t': Teacher('ctc/t', encoder_of='t')},
            "t is no oracle teacher, so it has no label branch",
        ),
    ],
)
def test_a_plan_with_a_wrong_name_is_refused(tmp_path, students, teachers, message):
    plan = Plan(students, 10, 5, teachers=teachers)
    with pytest.raises(ValueError, match=message):
        plan.runs({'train': tmp_path, 'dev': tmp_path}, tmp_path, [0])


@pytest.mark.unit
def test_a_causal_ctc_student_does_not_look_ahead(recipe):
    from nemo.collections.asr.models import EncDecCTCModel

    from nemo_oracle_kd.experiments.recipes import config_folder

    look_ahead, found = load_script('examples/causal_student/delays.py').look_ahead, []
    for words in (recipe.CAUSAL, []):
        cfg = OmegaConf.load(Path(config_folder('ctc')) / 'separable_ctc_char.yaml')
        cfg.model.update(width=8, train_ds=None, validation_ds=None)
        for word in words:
            key, value = word.removeprefix('+').split('=')
            OmegaConf.update(cfg, key, int(value), force_add=True)
        found.append(look_ahead(EncDecCTCModel(cfg=cfg.model).eval()))
    assert found[0] <= 0 < 60 < found[1]
