# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd check`: what a distillation would refuse, without training."""

import json

import pytest
import tiny

from nemo_oracle_kd.cli.main import main


@pytest.mark.integration
def test_models_that_fit_are_ready_and_others_are_told_why_not(tone_teacher, tmp_path, capsys):
    assert main(['check', str(tone_teacher), str(tone_teacher), '--objectives', 'frame_kl', 'guided_ctc']) == 0
    assert 'ready to distil frame_kl, guided_ctc' in capsys.readouterr().out
    other = tmp_path / 'other.nemo'
    tiny.ctc_model(tiny.ctc_config(hidden=16, stride=4, labels=[' ', 'b', 'a', 'c', 'd'])).save_to(str(other))
    assert main(['check', str(other), str(tone_teacher)]) == 1
    output = capsys.readouterr().out
    assert "label 1 is 'b' in the student and 'a' in the teacher" in output and 'set teacher.time_resampling' in output


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
