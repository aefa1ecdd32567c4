# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The sub-word oracle teacher, with a small SentencePiece tokenizer."""

import json

import pytest
import tiny
import tiny_oracle
import torch
from omegaconf import open_dict

from nemo_oracle_kd.models import EncDecOracleCTCModelBPE

pytestmark = pytest.mark.integration


def _tokenizer(folder, texts, size):
    import sentencepiece

    folder.mkdir()
    (folder / 'text.txt').write_text('\n'.join(texts))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / 'text.txt'),
        model_prefix=str(folder / 'tokenizer'),
        vocab_size=size,
        model_type='bpe',
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    vocabulary = (folder / 'tokenizer.vocab').read_text().splitlines()
    (folder / 'vocab.txt').write_text('\n'.join(line.split('\t')[0] for line in vocabulary) + '\n')
    return folder


@pytest.fixture(scope='module')
def bpe(tone_corpus, tmp_path_factory):
    """Teacher trained for a few steps, its texts and its folder."""
    folder = tmp_path_factory.mktemp('bpe')
    rows = [json.loads(line) for line in tone_corpus.read_text().splitlines()]
    config = tiny_oracle.oracle_config(tone_corpus, tone_corpus)
    with open_dict(config):
        config.tokenizer = {'dir': str(_tokenizer(folder / 'tokenizer', [r['text'] for r in rows], 14)), 'type': 'bpe'}
        config.decoder.num_classes = -1
        config.decoder.vocabulary = []
        del config.labels, config.train_ds.labels, config.validation_ds.labels
    trainer = tiny.trainer(60, log_every_n_steps=60)
    torch.manual_seed(0)
    teacher = EncDecOracleCTCModelBPE(cfg=config, trainer=trainer)
    trainer.fit(teacher)
    return teacher.eval(), rows, folder, trainer


def test_labels_are_sized_by_the_tokenizer_and_the_loss_falls(bpe):
    teacher, _, _, trainer = bpe
    assert teacher.encoder.label_encoder.num_labels == 14 == teacher.cfg.encoder.num_labels
    assert teacher.audio_decoder.num_classes_with_blank == 15
    assert float(trainer.callback_metrics['train_loss']) < 15


def test_save_restore_and_transcribe_with_text(bpe):
    teacher, rows, folder, _ = bpe
    teacher.save_to(str(folder / 'oracle.nemo'))
    restored = EncDecOracleCTCModelBPE.restore_from(str(folder / 'oracle.nemo'), map_location='cpu')
    paths, texts = [r['audio_filepath'] for r in rows[:3]], [r['text'] for r in rows[:3]]
    expected = teacher.transcribe(paths, batch_size=2, transcripts=texts, verbose=False)
    found = restored.transcribe(paths, batch_size=2, transcripts=texts, verbose=False)
    assert [h.text for h in found] == [h.text for h in expected] and len(found) == 3
    with pytest.raises(ValueError, match='transcripts='):
        restored.transcribe(paths)


def test_text_and_labels_are_inverse_and_unknown_characters_are_refused(bpe):
    teacher = bpe[0]
    assert teacher.decode_labels(teacher.encode_text('ab cd')) == 'ab cd'
    with pytest.raises(ValueError, match="does not know \\['é'\\]"):
        teacher.encode_text('abé')


def test_a_changed_tokenizer_gives_new_label_embedding_and_audio_decoder(bpe):
    _, rows, folder, _ = bpe
    teacher = EncDecOracleCTCModelBPE.restore_from(str(folder / 'oracle.nemo'), map_location='cpu')
    new = _tokenizer(folder / 'larger', [r['text'] for r in rows], 18)
    teacher.change_vocabulary(new_tokenizer_dir=str(new), new_tokenizer_type='bpe')
    assert teacher.encoder.label_encoder.embedding.num_embeddings == 19
    assert teacher.audio_decoder.num_classes_with_blank == 19
    texts = [teacher.encode_text(row['text']) for row in rows[:2]]
    labels, lengths = teacher.encode_texts(row['text'] for row in rows[:2])
    assert [labels[i, : lengths[i]].tolist() for i in range(2)] == texts
