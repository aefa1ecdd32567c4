# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Rows without a transcript train where nothing reads it, and are refused where something does."""

import pytest
import tiny
import torch
from omegaconf import open_dict
from tiny_scores import fit, read_rows, transducer_config, write_rows

from nemo_oracle_kd.callbacks import KnowledgeDistillation
from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.errors import ConfigError


@pytest.fixture
def untranscribed(tone_corpus, tmp_path):
    """The corpus without its texts."""
    rows = [{key: value for key, value in row.items() if key != 'text'} for row in read_rows(tone_corpus)]
    return write_rows(rows, tmp_path / 'untranscribed.jsonl')


@pytest.fixture(scope='module')
def hybrid_teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp('hybrid') / 'teacher.nemo'
    tiny.rnnt_model(tiny.rnnt_config(hybrid=True, hidden=16, stride=4), seed=3).save_to(str(path))
    return path


def _callback(teacher, objectives, weight=0.0, **options):
    return KnowledgeDistillation(
        {'restore_from': str(teacher), **options}, dict.fromkeys(objectives), {'weight': weight}
    )


@pytest.mark.integration
@pytest.mark.parametrize('lhotse, reduction', [(False, 'mean_volume'), (True, 'mean_batch')])
def test_frame_objectives_learn_from_audio_alone_as_much_as_with_texts(
    tone_corpus, untranscribed, tone_teacher, lhotse, reduction
):
    gradients = []
    for manifest in (tone_corpus, untranscribed):
        config = tiny.ctc_config(manifest, hidden=16, batch_size=16)
        config.ctc_reduction = reduction
        if lhotse:
            with open_dict(config):
                config.train_ds.update(use_lhotse=True, force_finite=True)
        logged, _, of_one = fit(
            manifest, _callback(tone_teacher, ['frame_kl', 'softmax_l2', 'guided_ctc']), 1, config=config
        )
        assert logged['label_loss_weighted'] == 0 and logged['frame_kl'] > 0
        gradients.append(of_one)
    labels = sum(len(row['text']) for row in read_rows(tone_corpus)) / 16
    scale = labels if reduction == 'mean_volume' else 1.0  # a batch without labels is averaged over utterances
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient * scale, gradients[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.integration
def test_a_transducer_learns_its_teachers_encoder_from_audio_alone(untranscribed, hybrid_teacher):
    callback = _callback(hybrid_teacher, ['encoder', 'representation'])
    logged, _, gradients = fit(untranscribed, callback, 2, config=transducer_config(untranscribed))
    assert logged['encoder'] > 0 and logged['representation'] > 0
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())
    assert any(name.startswith('encoder.') and bool(gradient.any()) for name, gradient in gradients.items())


@pytest.mark.integration
@pytest.mark.parametrize(
    'objective, weight, options, fix',
    [
        (
            'frame_kl',
            1.0,
            {},
            'or set label_loss.weight=0 or label_loss.on=supervised, because no objective here reads it',
        ),
        ('frame_kl', 0.0, {'delay': {'mode': 'estimate'}}, 'add the transcript$'),
        ('occupancy', 0.0, {}, 'add the transcript$'),
        ('full_sum', 0.0, {}, 'add the transcript$'),
    ],
)
def test_texts_that_are_read_are_asked_for(objective, weight, options, fix, untranscribed, tone_teacher):
    with pytest.raises(ConfigError, match=f'16 of 16 rows .* have no `text`.*{fix}'):
        fit(untranscribed, _callback(tone_teacher, [objective], weight, **options), kind='ctc')


@pytest.mark.integration
def test_marked_rows_have_the_label_loss_and_the_others_need_no_text(tone_corpus, untranscribed, tone_teacher, capsys):
    rows = read_rows(tone_corpus)
    for row in rows[::2]:
        row['supervised'] = True
    for row in rows[1::2]:
        del row['text']
    write_rows(rows, untranscribed)
    callback = KnowledgeDistillation({'restore_from': str(tone_teacher)}, {'frame_kl': {}}, {'on': 'supervised'})
    logged, _, _ = fit(untranscribed, callback, 2, kind='ctc')
    assert logged['label_loss_weighted'] > 0 and logged['frame_kl_weighted'] > 0
    command = ['check', str(tone_teacher), str(tone_teacher), '--manifest', str(untranscribed), '--preset', 'frame_kl']
    assert main([*command, 'label_loss.on=supervised']) == 0
    capsys.readouterr()
    assert main(command) == 1
    assert '8 of 16 rows' in capsys.readouterr().out
