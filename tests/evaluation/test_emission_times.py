# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""When models emit the labels of the true texts, and how far apart two alignments are."""

import numpy as np
import pytest
import soundfile
import tiny
import torch

from nemo_oracle_kd.bridge.audio import AudioSpan, audio_batch, read_audio
from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.evaluation import emission_times
from nemo_oracle_kd.evaluation.emission_times import alignment_distance, label_frames
from nemo_oracle_kd.functional import ctc_best_path


@pytest.mark.unit
def test_emissions_are_those_of_the_part_of_the_file_that_a_row_names(tmp_path, monkeypatch):
    spans, read = [], emission_times.read_audio
    soundfile.write(tmp_path / 'long.wav', tiny.tone_signal('abcabcabc', np.random.default_rng(0)), tiny.SAMPLE_RATE)
    monkeypatch.setattr(emission_times, 'read_audio', lambda span, rate: spans.append(span) or read(span, rate))
    row = {'audio_filepath': str(tmp_path / 'long.wav'), 'text': 'ab', 'offset': 0.25, 'duration': 0.3}
    found = label_frames(tiny.rnnt_model(tiny.rnnt_config()).eval(), [row], 'rnnt')
    assert found.shape == (1, 2) and (spans[0].offset, spans[0].duration) == (0.25, 0.3)


@pytest.mark.integration
def test_labels_of_all_rows_follow_one_another_as_on_their_best_paths(tone_corpus, tone_teacher, monkeypatch):
    from nemo.collections.asr.models import EncDecCTCModel

    model = EncDecCTCModel.restore_from(str(tone_teacher), map_location='cpu').eval()
    rows = read_manifest(tone_corpus)[:5]
    monkeypatch.setattr(emission_times, 'BATCH', 2)
    found, expected = label_frames(model, rows)[0], []
    for row in rows:
        batch = audio_batch([read_audio(AudioSpan.of_row(row), model.cfg.sample_rate)])
        log_probs, lengths, _ = model(input_signal=batch.signal, input_signal_length=batch.lengths)
        labels = torch.tensor([[model.decoder.vocabulary.index(letter) for letter in row['text']]])
        blank = len(model.decoder.vocabulary)
        path = ctc_best_path(log_probs, labels, lengths, torch.tensor([labels.shape[1]]), blank)[0].tolist()
        expected += [t for t, k in enumerate(path) if k not in (blank, -1) and (t == 0 or path[t - 1] != k)]
    assert found.tolist() == expected


@pytest.mark.unit
def test_distances_are_means_over_the_labels_that_both_emit():
    found = alignment_distance(torch.tensor([[3, 10, 12, -1, 9]]), torch.tensor([[4, 10, 8, 7, -1]]), 0.04)
    assert found.mean_ms == pytest.approx(1000 * 0.04 * (1 + 0 + 4) / 3)
    assert (found.within_frame, found.labels) == (pytest.approx(2 / 3), 3)


@pytest.mark.unit
def test_other_labels_and_no_common_label_are_refused():
    with pytest.raises(ValueError, match='2 and 3 labels'):
        alignment_distance(torch.zeros(1, 2), torch.zeros(1, 3), 0.04)
    with pytest.raises(ValueError, match='no label is emitted by both'):
        alignment_distance(torch.tensor([[-1, 1]]), torch.tensor([[1, -1]]), 0.04)
