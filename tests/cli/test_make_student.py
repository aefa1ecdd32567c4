# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd make-student`: every kind of model is cut to a stock model that restores, learns and transcribes."""

import contextlib
import json
import tarfile

import pytest
import tiny
import tiny_aed
import tiny_cut
import tiny_oracle
import torch
from omegaconf import OmegaConf

from nemo_oracle_kd.bridge.audio import AudioSpan, audio_batch, read_audio
from nemo_oracle_kd.bridge.cut.student import layer_left_out
from nemo_oracle_kd.bridge.encode import encode_audio
from nemo_oracle_kd.bridge.restore import restore_frozen
from nemo_oracle_kd.callbacks import KnowledgeDistillation
from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.evaluation.layer_losses import layer_losses
from nemo_oracle_kd.models import DistillEncDecCTCModel, EncDecOracleCTCModel


def _saved(model, path):
    model.save_to(str(path))
    return str(path)


@pytest.fixture(scope='module')
def teacher(tone_corpus, tmp_path_factory):
    """A FastConformer CTC model of three layers with random weights."""
    config = tiny_cut.with_conformer(tiny.ctc_config(tone_corpus), d_model=16)
    config.interctc = {'loss_weights': [0.1, 0.2], 'apply_at_layers': [0, 1]}
    return _saved(tiny.ctc_model(config), tmp_path_factory.mktemp('parent') / 'teacher.nemo')


def test_the_student_is_a_stock_model_that_learns_from_its_parent_and_transcribes(
    teacher, tone_corpus, tmp_path, capsys
):
    from nemo.collections.asr.models import ASRModel, EncDecCTCModel

    output, figures = str(tmp_path / 'student.nemo'), tmp_path / 'figures.json'
    assert main(['make-student', teacher, '-o', output, '--layers', '0,2', '--ff', '16', '--json', str(figures)]) == 0
    printed = capsys.readouterr().out
    found = json.loads(figures.read_text())
    assert (
        found['layers'] == [0, 2]
        and 'layers kept: 0, 2\nencoder: n_layers 2, d_model 16' in printed
        and 'real-time factor' in printed
    )
    for key, value in found['before'].items():
        assert value > 0 and (key == 'real_time_factor' or found['after'][key] < value), key

    student = ASRModel.restore_from(output, map_location='cpu')
    assert type(student) is EncDecCTCModel and student.num_weights == found['after']['weights']
    # the loss of layer 1 is now that of the layer before it
    assert dict(student.cfg.interctc) == {'loss_weights': [pytest.approx(0.3)], 'apply_at_layers': [0]}
    callback = KnowledgeDistillation({'restore_from': teacher}, {'frame_kl': {'weight': 1.0}})
    trainer = tiny.trainer(1, callbacks=[callback], log_every_n_steps=1)
    before = student.encoder.layers[1].self_attn.linear_q.weight.clone()
    student.set_trainer(trainer)
    student.setup_training_data(student.cfg.train_ds)
    student.setup_optimization()
    trainer.fit(student)
    assert trainer.global_step == 1 and trainer.callback_metrics['train/kd/frame_kl'] > 0
    assert not torch.equal(before, student.encoder.layers[1].self_attn.linear_q.weight)
    audio = [json.loads(line)['audio_filepath'] for line in tone_corpus.read_text().splitlines()[:2]]
    assert len(student.transcribe(audio, batch_size=2, num_workers=0, verbose=False)) == 2


@pytest.mark.parametrize('kind', ['tdt', 'hybrid of sub-words'])
def test_transducers_hybrids_and_sub_words_keep_all_but_the_encoder(kind, tmp_path):
    from nemo.collections.asr.models import EncDecHybridRNNTCTCBPEModel

    config, cls = tiny.rnnt_config(kind='tdt' if kind == 'tdt' else 'rnnt', hybrid=kind != 'tdt'), None
    config = tiny_cut.with_conformer(config, n_layers=2)
    if kind != 'tdt':
        config, cls = tiny.with_tokenizer(config, tiny.train_tokenizer(tmp_path / 'bpe')), EncDecHybridRNNTCTCBPEModel
    parent = tiny.rnnt_model(config, cls=cls)
    path, output = _saved(parent, tmp_path / 'teacher.nemo'), str(tmp_path / 'student.nemo')
    assert main(['make-student', path, '-o', output, '--keep', '1', '--d-model', '16']) == 0
    student = restore_frozen(output)
    assert type(student) is type(parent) and student.joint.enc.in_features == 16 and len(student.encoder.layers) == 1
    assert student.cfg.joint.jointnet.encoder_hidden == student.cfg.model_defaults.enc_hidden == 16
    old, new = parent.state_dict(), student.state_dict()
    others = [name for name in new if not name.startswith(('encoder.', 'joint.enc.weight', 'ctc_decoder'))]
    assert len(others) > 8 and all(torch.equal(old[name], new[name]) for name in others)
    assert tiny_cut.outputs(student).encoded.shape[1] == 16
    if kind != 'tdt':
        assert student.tokenizer.vocab == parent.tokenizer.vocab
        assert student.ctc_decoder.decoder_layers[0].in_channels == 16


def test_layers_that_the_loss_needs_least_are_dropped(tone_corpus, tmp_path, capsys):
    path, output = _saved(tiny_cut.conformer(), tmp_path / 'teacher.nemo'), str(tmp_path / 'student.nemo')
    options = ['--keep', '2', '--by-loss', str(tone_corpus), '--json', str(tmp_path / 'figures.json')]
    assert main(['make-student', path, '-o', output, *options]) == 0
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert 'without layer 2' in capsys.readouterr().out

    without = {int(layer): loss for layer, loss in figures['by_loss']['without'].items()}
    assert figures['layers'] == sorted(sorted(without, key=without.get)[1:])


@torch.no_grad()
def test_the_loss_without_a_layer_is_that_of_the_loss_function_of_nemo(tone_corpus):
    model = tiny_cut.conformer()
    whole, without = layer_losses(model, tone_corpus, batch_size=5, progress=False)
    rows = tiny_oracle.rows(tone_corpus)
    batch = audio_batch([read_audio(AudioSpan.of_row(row), tiny.SAMPLE_RATE) for row in rows])
    labels = [torch.tensor([tiny.LABELS.index(label) for label in row['text']]) for row in rows]
    lengths = torch.tensor([len(label) for label in labels])
    for layer, expected in {2: without[2], None: whole}.items():
        with layer_left_out(model, layer) if layer is not None else contextlib.nullcontext():
            audio = encode_audio(model, batch)
        nats = torch.nn.functional.ctc_loss(
            audio.log_probs.transpose(0, 1), torch.cat(labels), audio.lengths, lengths, blank=5, reduction='none'
        )
        possible = nats.isfinite()
        assert expected == pytest.approx(float(nats[possible].sum() / lengths[possible].sum()), rel=1e-4)


def test_a_saved_distill_model_is_cut_as_the_stock_model_that_it_is(tmp_path):
    path = _saved(tiny.ctc_model(tiny.ctc_config(), cls=DistillEncDecCTCModel), tmp_path / 'teacher.nemo')
    assert main(['make-student', path, '-o', str(tmp_path / 'student.nemo'), '--filters', '0.5']) == 0
    with tarfile.open(tmp_path / 'student.nemo') as archive:
        config = OmegaConf.load(archive.extractfile('./model_config.yaml'))
    assert config.target == 'nemo.collections.asr.models.ctc_models.EncDecCTCModel' and config.decoder.feat_in == 16


@pytest.mark.parametrize('kind, words', [('oracle', 'is an oracle teacher'), ('attention', 'neither a CTC nor')])
def test_other_models_are_refused(kind, words, tmp_path, capsys):
    if kind == 'oracle':
        model = EncDecOracleCTCModel(cfg=tiny_oracle.oracle_config())
    else:
        model = tiny_aed.aed_model(tmp_path)
    path = _saved(model, tmp_path / 'teacher.nemo')
    assert main(['make-student', path, '-o', str(tmp_path / 'student.nemo'), '--keep', '1']) == 2
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1 and not (tmp_path / 'student.nemo').exists()


@pytest.mark.parametrize(
    'options, words',
    [
        ([], 'nothing says what to cut'),
        (['--by-loss', 'dev.jsonl'], 'add --keep N'),
        (['--keep', '2', '--by-loss', 'none.jsonl'], 'does not exist'),
        (['--keep', '9'], 'from 1 to 3'),
        (['--d-model', '12', '--heads', '5'], '--heads 2'),
        (['--repeats', '2'], 'no meaning for a Conformer'),
    ],
)
def test_bad_requests_end_in_one_sentence_and_write_nothing(teacher, options, words, tmp_path, capsys):
    assert main(['make-student', teacher, '-o', str(tmp_path / 'student.nemo'), *options]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1 and list(tmp_path.iterdir()) == []
