# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd check`: what a distillation would refuse, without training."""

import functools
import json

import pytest
import tiny
from omegaconf import OmegaConf

from nemo_oracle_kd.bridge.restore import restore_frozen
from nemo_oracle_kd.cli.main import main


@pytest.fixture(autouse=True)
def _teachers_are_restored_once(monkeypatch):
    """Most of the time of a check would be the restoring of the same teacher."""
    monkeypatch.setattr('nemo_oracle_kd.distillation.teachers.restore_frozen', functools.cache(restore_frozen))


@pytest.mark.integration
def test_models_that_fit_are_ready_and_others_are_told_why_not(tone_teacher, tmp_path, capsys):
    assert main(['check', str(tone_teacher), str(tone_teacher), '--objectives', 'frame_kl', 'guided_ctc']) == 0
    assert 'ready to distil frame_kl, guided_ctc' in capsys.readouterr().out
    other = tmp_path / 'other.nemo'
    tiny.ctc_model(tiny.ctc_config(hidden=16, stride=4, labels=[' ', 'b', 'a', 'c', 'd'])).save_to(str(other))
    assert main(['check', str(other), str(tone_teacher)]) == 1
    output = capsys.readouterr().out
    assert "label 1 is 'b' in the student and 'a' in the teacher" in output and 'set teacher.time_resampling' in output


@pytest.mark.integration
def test_several_presets_are_checked_together(tone_teacher, capsys):
    command = ['check', str(tone_teacher), str(tone_teacher), '--preset']
    assert main([*command, 'frame_kl', 'softmax_l2', 'objectives.softmax_l2.weight=0.5']) == 0
    assert 'ready to distil frame_kl, softmax_l2' in capsys.readouterr().out
    assert main([*command, '[frame_kl,occupancy]']) == 0
    assert 'ready to distil frame_kl, occupancy' in capsys.readouterr().out
    assert main([*command, 'frame_kl', 'softmax_l1']) == 2
    assert "Did you mean 'softmax_l2'" in capsys.readouterr().err
    assert main([*command, 'frame_kl', 'ema']) == 2
    assert 'restore_from and self name different teachers' in capsys.readouterr().err


def _recipe(path, model, **others):
    """Writes the YAML of a recipe whose values point at each other, as NeMo's do."""
    OmegaConf.save(OmegaConf.create({'name': 'recipe', 'model': model, 'trainer': {'max_epochs': 1}, **others}), path)
    return str(path)


@pytest.mark.integration
def test_the_recipe_of_a_student_is_checked_before_there_is_a_student(tone_teacher, tone_corpus, tmp_path, capsys):
    model = tiny.ctc_config(tone_corpus, hidden=16)
    model.decoder.vocabulary, model.train_ds.labels = '${model.labels}', '${model.labels}'
    model.train_ds.manifest_filepath = '???'
    recipe = _recipe(tmp_path / 'recipe.yaml', model)
    assert main(['check', recipe, str(tone_teacher)]) == 0
    assert '5 characters' in capsys.readouterr().out
    upper = tmp_path / 'upper.jsonl'
    upper.write_text(tone_corpus.read_text().replace('"text"', '"words"'))
    assert main(['check', recipe, str(tone_teacher), '--set', f'model.train_ds.manifest_filepath={upper}']) == 1
    assert '16 of 16 rows' in capsys.readouterr().out
    section = {'teacher': {'restore_from': '???'}, 'objectives': {'softmax_l2': {'weight': '${weight}'}}}
    recipe = _recipe(tmp_path / 'slow.yaml', model, oracle_kd=section, weight=0.1)
    slower = 'model.encoder.jasper.0.stride=[4]'
    assert main(['check', recipe, str(tone_teacher), '--set', slower]) == 1
    printed = capsys.readouterr().out
    assert 'softmax_l2 compares frame by frame, but a frame is 40 ms' in printed
    assert (
        main(['check', recipe, str(tone_teacher), '--set', slower, '+oracle_kd.teacher.time_resampling=nearest']) == 0
    )
    assert main(['check', recipe, '--set', f'oracle_kd.teacher.restore_from={tone_teacher}']) == 0
    capsys.readouterr()
    assert main(['check', recipe]) == 2
    assert 'no teacher is named' in capsys.readouterr().err


@pytest.mark.integration
def test_recipes_of_hybrids_of_sub_words_and_of_fine_tuning(tone_teacher, tmp_path, capsys):
    folder = tiny.train_tokenizer(tmp_path / 'tokenizer')
    model = tiny.with_tokenizer(tiny.rnnt_config(hybrid=True, hidden=16), folder)
    model.tokenizer.dir = '???'
    recipe, parent = _recipe(tmp_path / 'hybrid.yml', model), str(tmp_path / 'parent.nemo')
    assert main(['check', recipe, str(tone_teacher)]) == 2
    assert '`model.tokenizer.dir` is not set' in capsys.readouterr().err
    command = ['check', recipe, str(tone_teacher), '--set', f'model.tokenizer.dir={folder}', '--objectives']
    assert main([*command, 'full_sum', 'frame_kl']) == 1
    printed = capsys.readouterr().out
    assert 'transducer + ctc' in printed and '16 sub-words' in printed and 'compares classes one by one' in printed
    tiny.ctc_model(tiny.ctc_config(hidden=16, labels=['a', 'b'])).save_to(parent)
    tuned = {'char_labels': {'update_labels': True, 'labels': tiny.LABELS}}
    recipe = _recipe(tmp_path / 'finetune.yaml', tuned, init_from_nemo_model=parent, init_from_pretrained_model=None)
    assert main(['check', recipe, str(tone_teacher)]) == 0
    capsys.readouterr()
    assert main(['check', recipe, str(tone_teacher), '--set', 'model.char_labels.update_labels=false']) == 1
    assert 'label 0 is' in capsys.readouterr().out


@pytest.mark.integration
@pytest.mark.parametrize(
    'content, sentence',
    [
        ({'trainer': {}}, 'has no section `model`'),
        ({'model': {'labels': ['a']}}, 'nor a model to start from: set init_from_nemo_model'),
        ({'model': {'encoder': {}, 'labels': ['a']}}, 'describes no CTC, transducer or hybrid model'),
        ({'model': {'encoder': {}, 'decoder': '${gone}'}}, 'cannot be resolved'),
        ({'model': {'encoder': {'_target_': 'os.system', 'command': 'true'}, 'decoder': {}}}, 'cannot be built'),
        ({'init_from_nemo_model': 'gone.nemo', 'model': {}}, "there is no model at 'gone.nemo'"),
    ],
)
def test_a_recipe_that_makes_no_student_is_one_sentence(content, sentence, tone_teacher, tmp_path, capsys):
    (tmp_path / 'recipe.yaml').write_text(OmegaConf.to_yaml(OmegaConf.create(content)))
    assert main(['check', str(tmp_path / 'recipe.yaml'), str(tone_teacher)]) == 2
    told = capsys.readouterr().err
    assert sentence in told and 'Traceback' not in told
    assert main(['check', str(tone_teacher), str(tone_teacher), '--set', 'a=b']) == 2
    assert '--set changes the YAML of a recipe' in capsys.readouterr().err


def test_a_wrong_objective_and_a_missing_model_are_one_sentence(tone_teacher, capsys):
    assert main(['check', str(tone_teacher), 'nowhere.nemo']) == 2
    assert "no model at 'nowhere.nemo'" in capsys.readouterr().err
    assert main(['check', 'a.nemo', 'b.nemo', '--objectives', 'framekl']) == 2
    assert "Did you mean 'frame_kl'" in capsys.readouterr().err


@pytest.mark.integration
def test_a_transducer_can_learn_scores_from_a_ctc_model_if_both_can_write_the_texts(
    tone_teacher, tone_corpus, tmp_path, capsys
):
    student, upper = tmp_path / 'student.nemo', tmp_path / 'upper.jsonl'
    tiny.rnnt_model(tiny.rnnt_config(hidden=16)).save_to(str(student))
    upper.write_text(''.join(line.replace('"text": "', '"text": "A') for line in open(tone_corpus)))
    command = ['check', str(student), str(tone_teacher), '--objectives', 'full_sum', '--manifest']
    assert main([*command, str(tone_corpus)]) == 0
    assert 'ready to distil full_sum' in capsys.readouterr().out
    assert main([*command, str(upper)]) == 1
    assert 'write the texts of the manifest in lower case' in capsys.readouterr().out
    scores = {'teacher_log_prob': -1.0, 'teacher_tokens': 3, 'teacher_fingerprint': '01234567-89abcdef-00000000'}
    lines = [json.loads(line) for line in open(tone_corpus)]
    for name, content, sentence in (
        ('foreign', [{**lines[0], **scores}], 'scored by another teacher'),
        ('lost', [{**lines[0], **scores}, lines[1]], 'have no `teacher_log_prob`'),
    ):
        manifest = tmp_path / f'{name}.jsonl'
        manifest.write_text(''.join(json.dumps(row) + '\n' for row in content))
        assert main([*command, str(manifest)]) == 1
        assert sentence in capsys.readouterr().out
    both = {**lines[0], **scores, 'text': 'A' + lines[0]['text']}
    upper.write_text(json.dumps(both) + '\n')
    assert main([*command, str(upper)]) == 1  # all that is wrong at once
    printed = capsys.readouterr().out
    assert 'in lower case' in printed and 'scored by another teacher' in printed
    upper.write_text(json.dumps(both) + '\n{"cut')  # a broken line keeps no other problem from being printed
    assert main([*command, str(upper)]) == 1
    printed = capsys.readouterr().out
    assert 'not valid JSON' in printed and 'scored by another teacher' in printed
    command[4] = 'hard'  # trains on the texts, whoever scored them
    assert main([*command, str(tmp_path / 'foreign.jsonl')]) == 0
    capsys.readouterr()
    command[4] = 'full_sum_norm'
    assert main([*command, str(tone_corpus)]) == 1
    assert 'have no `teacher_log_prob`' in capsys.readouterr().out
    for content, sentence in (
        ('', 'model.train_ds loads no row'),
        ('no json\n', f'{upper} (the first: line 1) are not valid JSON'),
    ):
        upper.write_text(content)
        assert main([*command, str(upper)]) == 1
        assert sentence in capsys.readouterr().out
    assert main([*command, str(tmp_path / 'absent.jsonl')]) == 1
    assert 'absent.jsonl' in capsys.readouterr().out
    assert main(['check', str(student), str(tone_teacher)]) == 1
    assert 'not trained with a CTC head' in capsys.readouterr().out
