# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The recipe of unlabelled speech: its split by speakers, its command lines, and two rounds of it on tones."""

import json
from pathlib import Path

import forks
import pytest
import tiny
from load_script import load_script
from omegaconf import OmegaConf
from recipes import composed, run_here
from tiny_scores import read_rows, write_rows

from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.experiments.jobs import fingerprints, order_jobs
from nemo_oracle_kd.experiments.pseudo_labels import Split, write_split
from nemo_oracle_kd.experiments.recipes import config_folder
from nemo_oracle_kd.experiments.unlabelled import ALONE, CEILING, Settings, StudentPlan, System

KEEP = 'nll_per_token <= quantile(0.6)'


@pytest.fixture(scope='module')
def data(tone_corpus, tmp_path_factory):
    """Folder with the tones of eight speakers, and four utterances of others as development and test set."""
    folder = tmp_path_factory.mktemp('unlabelled')
    rows = [{**row, 'speaker': f's{number % 8}'} for number, row in enumerate(read_rows(tone_corpus))]
    write_rows(rows, folder / 'train.jsonl')
    tiny.write_tone_corpus(folder, 'dev', 4, seed=5)
    return folder


@pytest.fixture(scope='module')
def systems_of_recipe():
    return load_script('examples/unlabelled_speech/systems.py')


@pytest.fixture(scope='module')
def make_parser(systems_of_recipe):
    return load_script('examples/unlabelled_speech/run.py').make_parser


def _small_start(path):
    """A student of eight channels with random weights."""
    from nemo.collections.asr.models import EncDecCTCModel

    config = OmegaConf.load(Path(config_folder('ctc')) / 'separable_ctc_char.yaml')
    config.model.update(width=8, train_ds=None, validation_ds=None)
    EncDecCTCModel(cfg=config.model).save_to(str(path))
    return path


@pytest.mark.unit
def test_speakers_are_not_divided_and_other_keys_and_shares_are_refused(data, tmp_path):
    parts = write_split(Split(0.25, 0.5, 3, 'speaker'), data / 'train.jsonl', tmp_path)
    speakers = {name: {row['speaker'] for row in read_rows(path)} for name, path in parts.items()}
    assert [len(speakers[name]) for name in ('all', 'supervised', 'few', 'unsupervised')] == [8, 2, 1, 4]
    assert not speakers['supervised'] & speakers['unsupervised']
    assert len(read_rows(parts['supervised'])) == 4 and len(read_rows(parts['unsupervised'])) == 8
    with pytest.raises(ValueError, match='row 1 of the training manifest has no `room`'):
        write_split(Split(by='room'), data / 'train.jsonl', tmp_path)
    with pytest.raises(ValueError, match='0.01 and 0.5 of 8 speakers make a part without any'):
        write_split(Split(0.01, 0.5, 0, 'speaker'), data / 'train.jsonl', tmp_path)


@pytest.mark.integration
def test_every_command_composes_and_students_wait_for_what_they_learn_from(data, tmp_path):
    parts = write_split(Split(0.25, 0.5, 0, 'speaker'), data / 'train.jsonl', tmp_path / 'data')
    labels = {name: tmp_path / f'{name}.jsonl' for name in ('big', 'small')}
    plan = StudentPlan(
        'ctc/separable_ctc_char',
        tmp_path / 'start.nemo',
        parts,
        data / 'dev.jsonl',
        labels,
        tmp_path / 'out',
        40,
        Settings('wer(small) < 0.2', 8.0, 0.5),
        overrides=['model.width=8'],
    )
    methods = ('hard', 'hard_filter', 'full_sum_l1', 'full_sum_filter', 'full_sum_norm')
    systems = {ALONE: System(), **{f'{name}_big': System(name, 'big') for name in methods}, CEILING: System()}
    systems['hard_small_80_updates'] = System('hard', 'small', 80)
    (filtering,) = plan.filter_jobs(systems)
    assert filtering.command[-2:-1] == [f'small={labels["small"]}'] and labels['big'] in filtering.inputs
    rounds, jobs = plan.rounds(3, 'hard_filter_big', KEEP, [2])
    runs = {run.name: run for run in [*plan.runs(systems, [2]), *rounds]}
    ordered = [job.name for job in order_jobs([filtering, *jobs, *(run.job for run in runs.values())])]
    assert ordered.index('seed_2/round_2') < ordered.index('seed_2/labels/round_3') < ordered.index('seed_2/round_3')
    first = [filtering, *(run.job for run in plan.runs(systems, [2]))]
    whole = fingerprints(order_jobs([*first, *jobs, *(run.job for run in rounds)]))
    assert fingerprints(order_jobs(first)).items() <= whole.items(), 'a further round leaves the first as it is'
    kept, labelled = plan.kept('big', 'wer(small) < 0.2'), str(parts['supervised'])
    trained = {name: composed(run) for name, run in runs.items()}
    manifests = {name: cfg.model.train_ds.manifest_filepath for name, cfg in trained.items()}
    assert manifests[ALONE] == labelled and manifests[CEILING] == [labelled, str(parts['unsupervised'])]
    for name in ('hard_big', 'full_sum_l1_big', 'full_sum_norm_big'):
        assert manifests[name] == [labelled, str(labels['big'])]
    for name in ('hard_filter_big', 'full_sum_filter_big'):
        assert manifests[name] == [labelled, str(kept)] and runs[name].job.depends == [filtering.name]
    for name, cfg in trained.items():
        assert cfg.init_from_nemo_model == str(tmp_path / 'start.nemo') and cfg.model.width == 8
        assert cfg.trainer.max_steps == (80 if '80' in name else 40)
        assert ('oracle_kd' in cfg) == (name not in (ALONE, CEILING))
        assert (cfg.model.spec_augment.time_masks == 4) == name.startswith('round')
    huber = trained['full_sum_filter_big'].oracle_kd.objectives.full_sum
    assert (huber.distance, huber.huber_width, huber.weight) == ('huber', 8.0, 0.5)
    plain = trained['full_sum_l1_big'].oracle_kd
    assert plain.objectives.full_sum.distance == 'l1' and plain.supervised_share == 0.25
    assert 'train/kd/full_sum_more_confident' in trained['full_sum_l1_big'].trainer.callbacks[0].metrics


@pytest.mark.integration
def test_starts_and_a_teacher_of_its_own_are_made_where_none_is_given(
    systems_of_recipe, make_parser, data, tmp_path, monkeypatch
):
    made = []
    monkeypatch.setattr(systems_of_recipe, 'JobRunner', lambda jobs, *_: made.extend(jobs) or _Nothing())
    words = ['--data', str(data), '--test', 'x', '--out', str(tmp_path), '--kind', 'rnnt', '--own-teacher']
    words += ['--teacher', f'big=whisper:{tmp_path}', '--student-overrides', 'model.width=8']
    parts = write_split(Split(0.25, 0.5, 0, 'speaker'), data / 'train.jsonl', tmp_path / 'data')
    plan = systems_of_recipe.prepare(make_parser().parse_args(words), parts, data / 'dev.jsonl', tmp_path)
    jobs = {job.name: job for job in order_jobs(made)}
    assert set(jobs) == {'synthetic', 'starts/student', 'starts/teacher', 'teachers/own', 'labels/big', 'labels/own'}
    assert jobs['synthetic'].inputs == [parts['supervised']], 'the texts of the others are unknown'
    assert jobs['labels/own'].depends == ['teachers/own']
    words = jobs['labels/big'].command
    assert words[words.index('--alphabet') + 1] == "abcdefghijklmnopqrstuvwxyz'" and 'language=en' in words
    assert words[words.index('--nbest') + 1] == '1' and '--prompt' not in jobs['labels/own'].command
    assert list(plan.labels) == ['big', 'own'] and plan.start == Path(jobs['starts/student'].outputs[0])
    (run,) = plan.runs({ALONE: System()}, [0])
    cfg = composed(run)
    assert 'joint' in cfg.model and cfg.model.width == 8 and cfg.model.encoder.jasper[1].stride == [4]


class _Nothing:
    def run(self):
        """The jobs are looked at and not run."""


@pytest.mark.unit
def test_mistakes_in_teachers_labels_and_systems_are_told(
    systems_of_recipe, make_parser, data, tmp_path, scored_tones
):
    parts = write_split(Split(0.25, 0.5, 0, 'speaker'), data / 'train.jsonl', tmp_path / 'data')
    given = ['--data', str(data), '--test', 'x', '--out', str(tmp_path), '--student-start', 'start.nemo']
    labels = scored_tones / 'decode.jsonl'
    for words, sentence in (
        ([], 'the teachers are none: give at least one'),
        (['--teacher', 'a=x.nemo', '--scored', f'a={parts["unsupervised"]}'], 'each with a name of its own'),
        (['--teacher', 'whisper:folder'], '--teacher whisper:folder: write NAME=...'),
        (['--scored', f'a={labels}'], '8 utterances that are not in the unlabelled part: label'),
    ):
        with pytest.raises(ValueError, match=sentence):
            systems_of_recipe.prepare(make_parser().parse_args([*given, *words]), parts, data / 'dev.jsonl', tmp_path)
    plan = StudentPlan('c/c', tmp_path, parts, tmp_path, {'a': labels, 'b': labels}, tmp_path, 1, Settings(KEEP))
    found = systems_of_recipe.systems_of(make_parser().parse_args(given), plan)
    assert set(found) == {ALONE, CEILING, 'hard_a', 'hard_filter_a', 'full_sum_l1_a', 'full_sum_huber_a'} | {
        'full_sum_filter_a',
        'full_sum_norm_a',
        'hard_b',
        'full_sum_huber_b',
        'full_sum_norm_b',
    }
    with pytest.raises(ValueError, match='--systems names hard_c: choose from hard_a'):
        systems_of_recipe.systems_of(make_parser().parse_args([*given, '--systems', 'hard_c']), plan)
    longer = systems_of_recipe.lengths_of(make_parser().parse_args([*given, '--lengths', '7', '600']), plan)
    assert list(longer) == ['hard_a_7_updates', 'full_sum_huber_a_7_updates']
    pairs = systems_of_recipe.pairs_of({**found, **longer})
    assert ('hard_a_7_updates', 'full_sum_huber_a_7_updates') in pairs and ('hard_b', 'full_sum_norm_b') in pairs
    assert ('hard_filter_a', 'full_sum_filter_a') in pairs and len(pairs) == 9


@pytest.mark.unit
def test_the_lowest_cer_on_the_development_set_of_the_first_seed_chooses(
    systems_of_recipe, make_parser, data, tmp_path, monkeypatch
):
    words = ['--data', str(data), '--test', 'x', '--out', str(tmp_path), '--seeds', '4', '5']
    words += ['--keep', 'words > 1', 'words > 2', '--huber-width', '2', '8', '--teacher-scale', '1', '3']
    rates, seen = [30.0, 20.0, 9.0, 7.0, 7.0, 8.0], []

    def run(comparison, parallel):
        seen.append(comparison)
        return {'systems': {name: {'cer': [rate]} for name, rate in zip(comparison.names, rates)}}

    monkeypatch.setattr(systems_of_recipe.Comparison, 'run', run)
    args = make_parser().parse_args(words)
    parts = {'supervised': data / 'train.jsonl', 'unsupervised': data / 'train.jsonl'}
    start, dev, labels = tmp_path / 'start.nemo', data / 'dev.jsonl', {'a': data / 'a.jsonl', 'b': data / 'b.jsonl'}
    plan = StudentPlan(
        'ctc/separable_ctc_char', start, parts, dev, labels, tmp_path, 5, Settings('words > 1', 2.0, 0.5)
    )
    settings, chosen = systems_of_recipe.choose(args, plan)
    assert settings == Settings('words > 2', 2.0, 1.0, 3.0), 'the first of equals'
    assert chosen['filter'] == {'words > 1': 30.0, 'words > 2': 20.0} and chosen['full_sum'] == {
        f'huber width {width}, weight 1, teacher scale {scale}': rate
        for (width, scale), rate in zip([(2, 1), (2, 3), (8, 1), (8, 3)], rates[2:])
    }
    (comparison,) = seen
    assert list(comparison.seeds) == [4] and comparison.test_manifest == dev
    trained = {run.name: composed(run) for run in comparison.seeds[4]}
    assert len(set(trained['filter_0'].model.train_ds.manifest_filepath) & {str(labels['a'])}) == 0
    shapes = [trained[f'full_sum_{number}'].oracle_kd.objectives.full_sum for number in range(4)]
    assert [(one.huber_width, one.teacher_scale) for one in shapes] == [(2, 1), (2, 3), (8, 1), (8, 3)]
    assert systems_of_recipe.choose(make_parser().parse_args(words[:6]), plan) == (plan.settings, {})
    assert len(seen) == 1, 'there is nothing to choose'


@pytest.mark.integration
def test_the_recipe_labels_filters_and_trains_two_rounds(data, tone_teacher, tmp_path, monkeypatch, capsys):
    forks.fork_jobs(monkeypatch)
    start, out = _small_start(tmp_path / 'start.nemo'), tmp_path / 'out'
    words = ['--data', data, '--test', data / 'dev.jsonl', '--out', out, '--labelled', '0.25', '--unlabelled', '0.5']
    words += ['--teacher', f'tones={tone_teacher}', '--student-start', start, '--student-overrides', 'model.width=8']
    words += [f'exp_manager.create_{part}=false' for part in ('tensorboard_logger', 'checkpoint_callback')]
    words += ['trainer.log_every_n_steps=1', '--systems', 'full_sum_l1_tones', '--updates', '2', '--rounds', '2']
    words += ['--parallel', '1', '--round-keep', 'duration > 0']
    run_here('unlabelled_speech/run.py', tmp_path, monkeypatch, *words)
    results, printed = json.loads((out / 'results.json').read_text()), capsys.readouterr().out
    assert list(results['systems']) == [ALONE, 'full_sum_l1_tones', CEILING, 'round_2']
    tones = results['teachers']['tones']
    assert tones['rows'] == len(read_manifest(out / 'labels' / 'tones' / 'scored.jsonl')) == 8
    assert tones['kept_rows'] == 0 and results['chosen'] == {}
    assert {pair['system'] for pair in results['paired_cer']} == {'full_sum_l1_tones', CEILING, 'round_2'}
    assert set(results['recovered']) == {'full_sum_l1_tones', 'round_2'} and 'share of the gap' in printed
    (share,) = results['systems']['full_sum_l1_tones']['surer_than_teacher']
    assert share == 0 and 'surer than the teacher of 0 % of' in printed
    assert (out / 'figure.png').stat().st_size > 5000
    header = json.loads((out / 'seed_0' / 'labels' / 'round_2' / 'scored.jsonl.header.json').read_text())
    assert header['teacher']['class'] == 'EncDecCTCModel' and Path(header['source']).parts[-2] == 'full_sum_l1_tones'
    assert len(read_manifest(out / 'seed_0' / 'kept' / 'round_2.jsonl')) == header['rows'] > 0
