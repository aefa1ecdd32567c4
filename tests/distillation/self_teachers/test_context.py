# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A streaming student at full attention context teaches itself."""

import pytest
import torch
from tiny_self import callback, calm_config, fit, logged, streaming_config

from nemo_oracle_kd.bridge.audio_path import attention_contexts
from nemo_oracle_kd.bridge.encode import encode_audio
from nemo_oracle_kd.bridge.signals import AudioBatch, Transcripts
from nemo_oracle_kd.errors import ConfigError

KL = {'frame_kl': {'weight': 0.5}}


def test_the_teacher_is_the_student_with_unlimited_attention(tone_corpus):
    torch.manual_seed(0)
    texts = Transcripts(torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    batch = AudioBatch(0.1 * torch.randn(1, 8000), torch.tensor([8000]), texts)
    seen = {}

    def look(trainer, student):
        modes = [part.training for part in student.modules()]
        seen['full'] = distillation.distiller.teacher.hear(batch).log_probs
        assert [part.training for part in student.modules()] == modes
        assert list(student.encoder.att_context_size) == [4, 1] and not seen['full'].requires_grad
        student.eval()
        with torch.no_grad():
            seen['limited'] = encode_audio(student, batch).log_probs
            student.encoder.att_context_size = [-1, -1]
            seen['by hand'] = encode_audio(student, batch).log_probs
            student.encoder.att_context_size = [4, 1]
        student.train()

    distillation = callback({'self': 'context'}, KL)
    trainer, _ = fit(distillation, streaming_config(tone_corpus), 2, look)
    torch.testing.assert_close(seen['full'], seen['by hand'])
    assert float((seen['full'] - seen['limited']).abs().max()) > 1e-3
    assert logged(trainer)['frame_kl'] > 0


def test_a_student_of_several_contexts_is_taught(tone_corpus):
    trainer, student = fit(callback({'self': 'context'}, KL), streaming_config(tone_corpus, [[4, 1], [4, 0]]), 2)
    assert attention_contexts(student) == [[4, 1], [4, 0]] and logged(trainer)['frame_kl'] > 0


def test_students_without_limited_attention_are_refused(tone_corpus):
    with pytest.raises(ConfigError, match='has no limited att_context_size: use a cache-aware Conformer'):
        fit(callback({'self': 'context'}, KL), calm_config(tone_corpus), 1)
    with pytest.raises(ConfigError, match='has no limited att_context_size'):
        fit(callback({'self': 'context'}, KL), streaming_config(tone_corpus, [-1, -1], 'regular'), 1)
