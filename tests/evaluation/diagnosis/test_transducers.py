# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The diagnosis tells oracle teachers with a transducer head apart, as it does those with a CTC head."""

import json

import pytest
import tiny
import tiny_oracle

from nemo_oracle_kd.evaluation.diagnosis.diagnosis import diagnose
from nemo_oracle_kd.evaluation.diagnosis.utterances import read_utterances
from nemo_oracle_kd.models import EncDecOracleRNNTModel

pytestmark = pytest.mark.integration


@pytest.fixture(scope='module')
def held_out(tmp_path_factory):
    """Manifest of tones that no teacher was trained on."""
    return tiny.write_tone_corpus(tmp_path_factory.mktemp('held_out'), 'dev', 12, seed=5)


@pytest.fixture(scope='module')
def listener(tmp_path_factory):
    """Trained on tones, with guards stronger than the defaults and a stage of audio alone: the steps are few."""
    return tiny_oracle.train_listener(
        tmp_path_factory.mktemp('tones'), tiny_oracle.oracle_rnnt_config, EncDecOracleRNNTModel
    )


@pytest.fixture(scope='module')
def copier(tmp_path_factory):
    """Trained on noise that says nothing, without guards, and told the absolute frame number: it can only copy."""
    return tiny_oracle.train_copier(
        tmp_path_factory.mktemp('noise'), tiny_oracle.oracle_rnnt_config, EncDecOracleRNNTModel
    )


def test_a_transducer_that_listens_is_called_so(listener, held_out):
    diagnosis = diagnose(listener, read_utterances(listener, held_out), batch_size=5, progress=False)
    conditions = diagnosis.conditions
    assert diagnosis.verdict == 'listens', diagnosis.reasons
    assert conditions['true_text'].wer_spoken < 50 < conditions['silent_audio'].wer_spoken
    assert conditions['true_text'].loss < conditions['swapped_text'].loss
    assert diagnosis.copied_share_swapped < 0.4 and diagnosis.copied_share_silent < 0.4
    assert all(
        diagnosis.heard[name].low > 0.5 for name in ('emitted_other_audio', 'emitted_silence', 'scored_other_audio')
    )
    assert diagnosis.spike_reference == 'audio branch of the teacher' and 0 <= diagnosis.spike_distance_ms < 200
    assert 0.5 < diagnosis.attention_monotonicity <= 1 and 0 <= diagnosis.attention_hit_rate <= 1


def test_a_transducer_trained_to_copy_is_called_so(copier, held_out):
    diagnosis = diagnose(copier, read_utterances(copier, held_out), progress=False)
    assert diagnosis.verdict == 'copies', diagnosis.reasons
    # With the true text alone it looks perfect: that is the danger.
    assert diagnosis.conditions['true_text'].given_label_errors < 40
    assert diagnosis.copied_share_swapped > 0.5 and diagnosis.copied_share_silent > 0.5
    assert diagnosis.heard['emitted_silence'].high < 0.25 and diagnosis.heard['scored_other_audio'].high < 0.25
    assert 'audio_branch' not in diagnosis.conditions and diagnosis.spike_reference is None


def test_the_command_prints_a_table_and_writes_json_and_picture(listener, held_out, tone_teacher, tmp_path, capsys):
    from nemo_oracle_kd.cli.main import main

    listener.save_to(str(tmp_path / 'oracle.nemo'))
    command = ['diagnose', str(tmp_path / 'oracle.nemo'), '--manifest', str(held_out), '--limit', '6']
    assert main([*command, '--output', str(tmp_path / 'out'), '--audio-model', str(tone_teacher)]) == 0
    assert 'verdict: listens' in capsys.readouterr().out
    record = json.loads((tmp_path / 'out' / 'diagnosis.json').read_text())
    assert record['verdict'] == 'listens' and record['spike_reference'] == 'audio-only model'
    assert (tmp_path / 'out' / 'attention.png').read_bytes()[:4] == b'\x89PNG'
