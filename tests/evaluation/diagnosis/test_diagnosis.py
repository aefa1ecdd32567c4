# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The diagnosis tells real teachers apart: one that listens, one trained to copy, one that ignores the text."""

import dataclasses
import json
import os

import numpy as np
import pytest
import soundfile
import tiny
import tiny_oracle
import torch
from diagnoses import assert_copies, assert_listens

from nemo_oracle_kd.bridge.signals import AudioBatch, Transcripts
from nemo_oracle_kd.callbacks.oracle_listening import summary
from nemo_oracle_kd.cli.diagnose import table
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.evaluation.diagnosis.attention import Example, rank_correlation
from nemo_oracle_kd.evaluation.diagnosis.attention_picture import save_attention_picture
from nemo_oracle_kd.evaluation.diagnosis.diagnosis import Diagnosis, diagnose
from nemo_oracle_kd.evaluation.diagnosis.utterances import Utterance, batches, read_utterances, swap_partners
from nemo_oracle_kd.evaluation.diagnosis.verdict import HEARD_SHARES
from nemo_oracle_kd.evaluation.inputs import AudioInputs
from nemo_oracle_kd.models import EncDecOracleCTCModel

pytestmark = pytest.mark.integration

HEAD = 'ctc'


def test_a_teacher_that_listens_is_called_so(listener, held_out):
    assert_listens(diagnose(listener, read_utterances(listener, held_out), batch_size=5, progress=False))


def test_a_teacher_trained_to_copy_is_called_so(copier, held_out):
    assert_copies(diagnose(copier, read_utterances(copier, held_out), progress=False), label_errors=30)


def test_the_numbers_that_a_training_watches_tell_the_two_apart(listener, copier, held_out):
    utterances = read_utterances(listener, held_out)
    indices, signal, lengths = next(batches(utterances, AudioInputs(tiny.SAMPLE_RATE), len(utterances)))
    labels = [torch.tensor(utterances[i].labels) for i in indices]
    counts = torch.tensor([len(row) for row in labels])
    texts = Transcripts(torch.nn.utils.rnn.pad_sequence(labels, batch_first=True), counts)
    batch = AudioBatch(signal, lengths, texts)
    shares = {model: summary(model.held_out_losses(batch))[1] for model in (listener, copier)}
    assert shares[copier].high < 0.25 < 0.5 < shares[listener].low


def test_a_teacher_whose_attention_is_cut_ignores_the_text(listener, held_out):
    deaf = EncDecOracleCTCModel(cfg=listener.cfg)
    deaf.load_state_dict(listener.state_dict())
    for layer in deaf.encoder.fusion.layers:
        torch.nn.init.zeros_(layer.cross_attention.value.weight)
        torch.nn.init.zeros_(layer.cross_attention.value.bias)
    diagnosis = diagnose(deaf, read_utterances(deaf, held_out), progress=False)
    assert diagnosis.verdict == 'ignores the text'
    assert diagnosis.text_gain == pytest.approx(0.0, abs=1e-4)


def test_an_untrained_teacher_is_neither(held_out):
    untrained = tiny.ctc_model(tiny_oracle.oracle_config(), cls=EncDecOracleCTCModel)
    diagnosis = diagnose(untrained, read_utterances(untrained, held_out), progress=False)
    assert diagnosis.verdict == 'inconclusive'
    assert 'neither what it reads nor what it hears' in diagnosis.reasons[0]


def test_models_whose_training_diverged_are_refused(held_out):
    teacher = tiny.ctc_model(tiny_oracle.oracle_config(), cls=EncDecOracleCTCModel)
    diverged = tiny.ctc_model(tiny.ctc_config())
    with torch.no_grad():
        next(diverged.parameters()).fill_(torch.nan)
    utterances = read_utterances(teacher, held_out, limit=4)
    with pytest.raises(ConfigError, match='the audio-only model has NaN or infinity in 1 of its'):
        diagnose(teacher, utterances, audio_model=diverged, progress=False)
    with torch.no_grad():
        next(teacher.parameters())[0] = -torch.inf
    with pytest.raises(ConfigError, match='the teacher has NaN or infinity in 1 of its'):
        diagnose(teacher, utterances, progress=False)


def test_the_picture_replaces_an_earlier_one_in_one_piece(tmp_path):
    picture, earlier = tmp_path / 'picture.png', tmp_path / 'earlier.png'
    picture.write_bytes(b'earlier')
    os.link(picture, earlier)  # a reader that has the earlier picture open
    attention = np.full((4, 3), 1 / 3)
    example = Example('ab', ['a', 'b'], np.zeros((8, 16)), attention, attention, np.array([0.1, 0.3]), None, 0.5)
    assert save_attention_picture([example], picture, 'listens') == picture
    assert picture.read_bytes()[:4] == b'\x89PNG' and earlier.read_bytes() == b'earlier'
    assert sorted(tmp_path.iterdir()) == [earlier, picture]


def test_a_teacher_in_training_is_measured_and_goes_on_as_it_was(listener, held_out):
    utterances = read_utterances(listener, held_out, limit=4)
    expected = diagnose(listener, utterances, examples=0, progress=False)
    assert expected.examples == []
    listener.train()
    listener.encoder.audio_encoder.eval()  # a part that the user froze
    try:
        weights = {name: value.clone() for name, value in listener.state_dict().items()}
        torch.manual_seed(7)
        before = torch.get_rng_state()
        found = diagnose(listener, utterances, examples=0, progress=False)
        assert torch.equal(before, torch.get_rng_state())
        assert listener.training and listener.decoder.training and not listener.encoder.audio_encoder.training
        assert all(torch.equal(value, weights[name]) for name, value in listener.state_dict().items())
        assert found.as_dict() == expected.as_dict()
    finally:
        listener.eval()


def test_every_number_is_in_the_json_and_comes_back(listener, held_out):
    diagnosis = diagnose(listener, read_utterances(listener, held_out, limit=4), examples=0, progress=False)
    written = json.loads(json.dumps(diagnosis.as_dict()))
    assert set(written['heard']) == set(HEARD_SHARES)
    assert set(written['heard']['emitted_silence']) == {'own', 'wrong', 'chance', 'learnt', 'value', 'low', 'high'}
    assert written['heard']['scored_other_audio']['own'] == pytest.approx(diagnosis.conditions['true_text'].loss)
    assert Diagnosis.from_dict(written) == diagnosis


def test_spikes_stand_at_the_seconds_of_the_audio_also_where_every_repeat_strides(held_out):
    config = tiny_oracle.oracle_config()
    # NeMo's own property counts one stride of the two
    config.encoder.audio_encoder.jasper[1].update(stride=[2], repeat=2)
    teacher = tiny.ctc_model(config, cls=EncDecOracleCTCModel)
    utterances = [
        dataclasses.replace(one, labels=one.labels[:2]) for one in read_utterances(teacher, held_out, limit=6)
    ]
    examples = diagnose(teacher, utterances, examples=6, progress=False).examples
    spoken = sorted(soundfile.info(one.path).duration for one in utterances)
    assert sorted(example.seconds for example in examples) == pytest.approx(spoken, abs=0.1)


def test_the_size_of_the_batch_changes_nothing(listener, held_out):
    utterances = read_utterances(listener, held_out, limit=5)
    one = diagnose(listener, utterances, batch_size=1, progress=False).as_dict()
    five = diagnose(listener, utterances, batch_size=5, progress=False).as_dict()
    for name, condition in one['conditions'].items():
        for measure, value in condition.items():
            other = five['conditions'][name][measure]
            # silence is normalised dither, which amplifies the rounding of a batch
            assert value is other is None or value == pytest.approx(other, rel=1e-2)
    assert one['spike_distance_ms'] == pytest.approx(five['spike_distance_ms'])


def test_spikes_can_be_compared_with_an_audio_only_model(listener, held_out, tone_teacher):
    from nemo_oracle_kd.bridge.restore import restore_frozen

    utterances = read_utterances(listener, held_out, limit=4)
    audio_model = restore_frozen(str(tone_teacher))
    diagnosis = diagnose(listener, utterances, audio_model=audio_model, progress=False)
    assert diagnosis.spike_reference == 'audio-only model' and diagnosis.spike_distance_ms > 0
    near, far = (dataclasses.replace(diagnosis, spike_distance_ms=distance) for distance in (50.0, 102.0))
    assert near.caution is None and near.as_dict()['caution'] is None
    assert far.caution.startswith('its spikes lie 102 ms from those of the audio-only model on average (limit 50 ms)')
    assert f'caution: {far.caution}' in table(far) and 'caution' not in table(near)
    assert Diagnosis.from_dict(far.as_dict()).caution == far.caution
    other = tiny.ctc_model(tiny.ctc_config(labels=[' ', 'a', 'b', 'c', 'x']))
    with pytest.raises(ConfigError, match='another vocabulary'):
        diagnose(listener, utterances, audio_model=other, progress=False)


def test_the_command_prints_a_table_and_writes_json_and_picture(listener_file, held_out, tmp_path, capsys):
    from nemo_oracle_kd.cli.main import main

    command = ['diagnose', str(listener_file), '--manifest', str(held_out), '--output', str(tmp_path / 'out')]
    assert main([*command, '--limit', '10']) == 0
    printed = capsys.readouterr().out
    assert 'verdict: listens' in printed and "another utterance's text" in printed
    assert "loss, another utterance's audio" in printed and 'no evidence of listening' in printed
    record = json.loads((tmp_path / 'out' / 'diagnosis.json').read_text())
    assert record['verdict'] == 'listens' and record['utterances'] == 10 and record['reasons']
    assert (tmp_path / 'out' / 'attention.png').read_bytes()[:4] == b'\x89PNG'


def test_the_command_refuses_an_ordinary_model(tone_teacher, held_out, tmp_path, capsys):
    from nemo_oracle_kd.cli.main import main

    assert main(['diagnose', str(tone_teacher), '--manifest', str(held_out), '--output', str(tmp_path)]) == 2
    assert 'give an oracle teacher' in capsys.readouterr().err


@pytest.mark.parametrize(
    'lines, sentence',
    [
        (['{"audio_filepath": "AUDIO", "duration": 1.0}'], 'line 1: `text` is missing'),
        (['{"audio_filepath": "AUDIO", "duration": 1.0, "text": " "}'], 'holds no text for'),
        (['{"audio_filepath": "AUDIO", "text": "ab"}'] * 2, 'two different texts'),
        (['{"audio_filepath": "AUDIO"'], 'line 1: not valid JSON'),
        (['{"audio_filepath": "none.wav", "text": "ab"}'], 'line 1: audio file .*none.wav does not exist'),
    ],
)
def test_manifests_that_cannot_be_used_are_refused(listener, held_out, tmp_path, lines, sentence):
    audio = json.loads(held_out.read_text().splitlines()[0])['audio_filepath']
    manifest = tmp_path / 'bad.jsonl'
    manifest.write_text('\n'.join(line.replace('AUDIO', audio) for line in lines))
    with pytest.raises(ValueError, match=sentence):
        read_utterances(listener, manifest)


def test_a_manifest_that_does_not_exist_is_refused(listener, tmp_path):
    with pytest.raises(FileNotFoundError, match='none.jsonl does not exist'):
        read_utterances(listener, tmp_path / 'none.jsonl')


def test_a_diagnosis_hears_the_stretch_that_a_training_would(tmp_path):
    rate, signal = tiny.SAMPLE_RATE, np.arange(2 * tiny.SAMPLE_RATE, dtype=np.int16)
    path = str(tmp_path / 'a.wav')
    soundfile.write(path, signal, rate)
    stretches = [(0.0, None), (0.0, 0.5), (1.0, 0.25), (1.5, None)]
    utterances = [Utterance(path, 'a', (1,), offset, duration) for offset, duration in stretches]
    ((indices, heard, lengths),) = batches(utterances, AudioInputs(rate), batch_size=4)
    for i, samples, length in zip(indices, heard, lengths):
        offset, duration = utterances[i].offset, utterances[i].duration
        expected = signal[int(offset * rate) :][: None if duration is None else int(duration * rate)]
        assert (samples[:length].numpy() * 2**15).round().astype(np.int16).tolist() == expected.tolist()
    with pytest.raises(ValueError, match='holds no audio at 2 s'):
        next(batches([Utterance(path, 'a', (1,), 2.0, None)], AudioInputs(rate), 1))


def test_partners_have_another_text_of_similar_length():
    texts = ['a', 'a', 'bb', 'ccc', 'ccc']
    utterances = [Utterance('x.wav', text, tuple(range(len(text)))) for text in texts]
    partners = swap_partners(utterances)
    assert all(utterances[j].text != utterances[i].text for i, j in enumerate(partners))
    assert partners == [2, 2, 3, 2, 2]


def test_rank_correlation_knows_order_reversal_and_ties():
    assert rank_correlation(np.array([0.1, 0.5, 2.0, 9.0])) == pytest.approx(1.0)
    assert rank_correlation(np.array([3.0, 2.0, 1.0])) == pytest.approx(-1.0)
    assert rank_correlation(np.array([1.0, 1.0, 1.0])) == 0.0
    assert rank_correlation(np.array([1.0, 2.0])) is None
