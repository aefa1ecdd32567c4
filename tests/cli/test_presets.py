# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Listing, showing and copying presets."""

import itertools
from dataclasses import fields

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nemo_oracle_kd.bridge.register.presets import CALLBACK_TARGET
from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.cli.presets import merged_presets, preset_files, preset_text, summary
from nemo_oracle_kd.distillation.self_teachers.kinds import SELF_TEACHERS


def test_every_preset_is_listed_with_its_first_comment_line(capsys):
    assert main(['presets']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(preset_files())
    assert all(
        len(line.split(maxsplit=1)) == 2 for line in lines
    ), "a preset begins with a line that says what it does"


def test_a_hydra_directive_is_no_summary():
    assert summary("# @package _global_\n\n# What it does.\nteacher: {}\n") == "What it does."
    assert summary("teacher: {}\n") == ""


@pytest.mark.parametrize('name', list(preset_files()))
def test_every_preset_has_a_teacher_to_be_named_or_its_scores_and_objectives(name):
    preset = yaml.safe_load(preset_text(name))
    teacher = preset['teacher']
    named = teacher.get('restore_from') == '???' or teacher.get('scores') == 'manifest'
    assert named or teacher['self'] in SELF_TEACHERS
    assert preset['objectives']
    assert 'trainer' not in preset, "a list in a preset would replace the callbacks of the recipe"


@pytest.mark.parametrize('name', list(preset_files()))
def test_every_preset_is_a_valid_config_that_names_the_defaults(name):
    from nemo_oracle_kd.distillation.settings import DistillationConfig

    preset = yaml.safe_load(preset_text(name).replace('???', 'teacher.nemo'))
    config = DistillationConfig.from_mapping(preset)
    defaults = {'teacher': preset['teacher'], 'label_loss': preset['label_loss']}
    defaults = DistillationConfig.from_mapping({**defaults, 'objectives': dict.fromkeys(preset['objectives'])})
    if 'self' not in preset['teacher']:
        assert config.objectives == defaults.objectives
        return
    # the objective has the weight that suits this teacher; what is named in full are the options
    teacher = config.teacher
    assert teacher == type(teacher)(self=teacher.self)
    assert set(preset['teacher']) == {field.name for field in fields(teacher)} - {'head', 'time_resampling'}
    for name, options in preset['objectives'].items():
        assert set(options) == {field.name for field in fields(config.objectives[name])}


@pytest.mark.parametrize('name', list(preset_files()))
def test_a_preset_shown_as_a_callback_holds_the_same_values(name, capsys):
    assert main(['presets', 'show', name, '--as-callback']) == 0
    (entry,) = yaml.safe_load(capsys.readouterr().out)['trainer']['callbacks']
    assert entry.pop('_target_') == CALLBACK_TARGET
    assert entry == yaml.safe_load(preset_text(name))


def test_show_prints_the_file_as_it_is(capsys):
    name = next(iter(preset_files()))
    assert main(['presets', 'show', name]) == 0
    assert capsys.readouterr().out == preset_text(name)


def test_several_presets_are_shown_as_hydra_merges_them(tmp_path, capsys):
    names = ['full_sum', 'frame_kl', 'guided_ctc']
    (tmp_path / 'recipe.yaml').write_text('trainer: {}\n')
    with initialize_config_dir(config_dir=str(tmp_path), version_base=None):
        composed = OmegaConf.to_container(compose('recipe', overrides=[f'+oracle_kd=[{",".join(names)}]']).oracle_kd)
    assert main(['presets', 'show', *names]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == composed == OmegaConf.to_container(merged_presets(names))
    assert list(composed['objectives']) == names
    assert main(['presets', 'show', *names, '--as-callback']) == 0
    (entry,) = yaml.safe_load(capsys.readouterr().out)['trainer']['callbacks']
    assert {**entry, '_target_': None} == {**composed, '_target_': None}


def test_any_two_presets_make_a_config_or_are_refused_for_their_teachers():
    from nemo_oracle_kd.distillation.settings import DistillationConfig
    from nemo_oracle_kd.errors import ConfigError

    presets = {name: OmegaConf.create(preset_text(name)) for name in preset_files()}
    itself = {name for name, preset in presets.items() if 'self' in preset.teacher}
    stored = {name for name, preset in presets.items() if preset.teacher.get('scores')}
    for first, second in itertools.permutations(presets, 2):
        pair = {first, second}
        if pair <= itself:
            continue  # docs/registration.md says that these cannot be combined
        merged = OmegaConf.to_container(OmegaConf.merge(presets[first], presets[second]))
        if pair & stored and not pair <= stored | itself:  # as docs/registration.md says
            merged['teacher']['scores'] = None
        if merged['teacher'].get('restore_from') == '???' or not merged['teacher'].get('scores') and not pair & itself:
            merged['teacher']['restore_from'] = 'teacher.nemo'
        try:
            config = DistillationConfig.from_mapping(merged)
        except ConfigError as error:
            told = pair & itself and 'name different teachers' in str(error)
            assert (
                told or pair & {'hard', 'full_sum_norm'} and 'own texts: label the training data' in str(error)
            ), pair
        else:
            assert set(config.objectives) == {*presets[first].objectives, *presets[second].objectives}


def test_an_unknown_preset_is_answered_with_the_nearest_one(capsys):
    assert main(['presets', 'show', 'frame_kd']) == 2
    assert "Did you mean 'frame_kl'?" in capsys.readouterr().err


def test_copying_makes_the_folder_and_does_not_overwrite_unasked(tmp_path, capsys):
    destination = f"{tmp_path}/mine/oracle_kd/"
    copy = tmp_path / 'mine/oracle_kd/frame_kl.yaml'
    assert main(['presets', 'cp', 'frame_kl', destination]) == 0
    assert copy.read_text() == preset_text('frame_kl')
    copy.write_text('# mine\n')
    assert main(['presets', 'cp', 'frame_kl', destination]) == 2
    assert 'exists already: give another path, or use --overwrite' in capsys.readouterr().err
    assert copy.read_text() == '# mine\n'
    assert main(['presets', 'cp', 'frame_kl', destination, '--overwrite']) == 0
    assert copy.read_text() == preset_text('frame_kl')


def test_copying_to_a_file_name_renames_the_preset(tmp_path):
    assert main(['presets', 'cp', 'frame_kl', f'{tmp_path}/stronger.yaml']) == 0
    assert (tmp_path / 'stronger.yaml').read_text() == preset_text('frame_kl')
