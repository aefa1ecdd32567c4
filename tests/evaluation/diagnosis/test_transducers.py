# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The diagnosis tells oracle teachers with a transducer head apart, as it does those with a CTC head."""

import json

import pytest
from diagnoses import assert_copies, assert_listens

from nemo_oracle_kd.evaluation.diagnosis.diagnosis import diagnose
from nemo_oracle_kd.evaluation.diagnosis.utterances import read_utterances

pytestmark = pytest.mark.integration

HEAD = 'rnnt'


def test_a_transducer_that_listens_is_called_so(listener, held_out):
    diagnosis = diagnose(listener, read_utterances(listener, held_out), batch_size=5, progress=False)
    assert_listens(diagnosis)
    assert diagnosis.spike_distance_ms < 200 and diagnosis.attention_monotonicity > 0.5


def test_a_transducer_trained_to_copy_is_called_so(copier, held_out):
    assert_copies(diagnose(copier, read_utterances(copier, held_out), progress=False), label_errors=40)


def test_the_command_prints_a_table_and_writes_json_and_picture(
    listener_file, held_out, tone_teacher, tmp_path, capsys
):
    from nemo_oracle_kd.cli.main import main

    command = ['diagnose', str(listener_file), '--manifest', str(held_out), '--limit', '6']
    assert main([*command, '--output', str(tmp_path / 'out'), '--audio-model', str(tone_teacher)]) == 0
    assert 'verdict: listens' in capsys.readouterr().out
    record = json.loads((tmp_path / 'out' / 'diagnosis.json').read_text())
    assert record['verdict'] == 'listens' and record['spike_reference'] == 'audio-only model'
    assert (tmp_path / 'out' / 'attention.png').read_bytes()[:4] == b'\x89PNG'
