# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The recipe of good and bad teachers: its split, the command lines that it builds, and what waits for what."""

import json
from pathlib import Path

import pytest
import tiny
from load_script import load_script
from recipes import composed

from nemo_oracle_kd.experiments.jobs import fingerprints, order_jobs
from nemo_oracle_kd.experiments.pseudo_labels import Split, write_split

ladder = load_script('examples/noisy_teachers/ladder.py')
LADDER, METHODS, Recipe, label_jobs = ladder.LADDER, ladder.METHODS, ladder.Recipe, ladder.label_jobs
student_runs, systems, teacher_runs = ladder.student_runs, ladder.systems, ladder.teacher_runs


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("it's, a=path")
    manifest = tiny.write_tone_corpus(folder, 'train', 10)
    parts = write_split(Recipe().split, Path(manifest), folder / 'out' / 'data')
    return folder / 'out', Path(manifest), parts


def _rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_split_is_seeded_and_no_utterance_is_in_both_parts(work, tmp_path):
    out, manifest, parts = work
    rows = {name: _rows(path) for name, path in parts.items()}
    assert [len(rows[name]) for name in ('all', 'supervised', 'few', 'unsupervised')] == [10, 5, 2, 3]
    names = {name: {row['audio_filepath'] for row in part} for name, part in rows.items()}
    assert not names['supervised'] & names['unsupervised'] and names['few'] < names['supervised']
    assert all(row['supervised'] is True for row in rows['supervised'])
    assert not any('supervised' in row for row in rows['unsupervised'])
    again = write_split(Recipe().split, manifest, tmp_path / 'again')
    other = write_split(Split(unsupervised=1 / 3, seed=1), manifest, tmp_path / 'other')
    assert again['supervised'].read_text() == parts['supervised'].read_text() != other['supervised'].read_text()


def test_every_command_composes_and_all_students_get_the_same_updates_from_the_same_start(work):
    out, manifest, parts = work
    recipe = Recipe(updates=40, warm_updates=24)
    runs = teacher_runs(recipe, parts, manifest, out) + student_runs(recipe, parts, manifest, out, [3])
    for run in runs:
        cfg = composed(run)
        assert cfg.seed == run.seed and Path(cfg.save_to) == Path(run.model)
        train = cfg.model.train_ds.manifest_filepath
        if run.name in LADDER:
            assert train == str(parts[LADDER[run.name].labels]) and 'oracle_kd' not in cfg
            assert cfg.model.width == LADDER[run.name].width
        elif run.name == 'warm_start':
            assert train == str(parts['supervised']) and cfg.trainer.max_steps == 24
        else:
            assert cfg.trainer.max_steps == 40
            assert cfg.init_from_nemo_model == str(out / f'seed_{run.seed}' / 'training' / 'warm_start' / 'model.nemo')
            method, teacher = systems(recipe.teachers)[run.name]
            if method is None:
                assert train == str(parts['supervised']) and 'oracle_kd' not in cfg
                continue
            assert list(train) == [str(parts['supervised']), str(out / 'labels' / teacher / 'scored.jsonl')]
            kd = cfg.oracle_kd
            assert kd.supervised_share == recipe.share
            assert list(kd.objectives) == [METHODS[method][1]]
            assert kd.label_loss.on == ('all' if method == 'hard_soft' else 'supervised')
            if METHODS[method][1] == 'lattice':
                assert kd.teacher.restore_from == str(out / 'teachers' / f'{teacher}.nemo')
                continue
            assert kd.teacher.scores == 'manifest' and kd.teacher.restore_from is None
            if method != 'hard':
                assert kd.objectives[METHODS[method][1]].distance == method.rsplit('_', 1)[1]


def test_students_wait_for_their_start_and_for_their_teachers_labels(work):
    out, manifest, parts = work
    recipe = Recipe()
    teachers = [run.job for run in teacher_runs(recipe, parts, manifest, out)]
    students = [run.job for run in student_runs(recipe, parts, manifest, out, [2])]
    jobs = order_jobs([*teachers, *label_jobs(recipe, parts, manifest, out), *students])
    waits = {job.name: set(job.depends) for job in jobs}
    assert waits['labels/S'] == {'teachers/S'} and waits['labels/test'] == {f'teachers/{name}' for name in LADDER}
    assert waits['seed_2/hard_S'] == {'seed_2/warm_start', 'labels/S'}
    assert waits['seed_2/student_alone'] == {'seed_2/warm_start'} and waits['teachers/S'] == set()


def test_another_split_trains_everything_anew_and_another_student_seed_leaves_the_teachers(work, tmp_path):
    out, manifest, parts = work

    def prints(parts, seeds, **changes):
        recipe = Recipe(**changes)
        teachers = [run.job for run in teacher_runs(recipe, parts, manifest, out)]
        students = [run.job for run in student_runs(recipe, parts, manifest, out, seeds)]
        return fingerprints(order_jobs([*teachers, *label_jobs(recipe, parts, manifest, out), *students]))

    first, longer = prints(parts, [0]), prints(parts, [0], updates=7)
    assert all(first[name] == longer[name] for name in ('teachers/S', 'labels/S', 'seed_0/warm_start'))
    assert first['seed_0/hard_S'] != longer['seed_0/hard_S']
    reseeded = prints(parts, [0], teacher_seed=1)
    assert reseeded['teachers/S'] != first['teachers/S'] and reseeded['seed_0/hard_S'] != first['seed_0/hard_S']
    assert reseeded['seed_0/student_alone'] == first['seed_0/student_alone']
