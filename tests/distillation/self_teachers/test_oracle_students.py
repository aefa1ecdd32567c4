# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Students of several kinds with a label branch: causal ones, with sub-words, in bfloat16."""

import math

import pytest
import tiny
import torch
from lightning.pytorch.callbacks import LambdaCallback
from nemo.collections.asr.models import EncDecCTCModelBPE
from tiny_self import CALM_ORACLE, callback, calm_config, fit, logged, streaming_config, watch_step

from nemo_oracle_kd.bridge.hooks.guest import GUEST
from nemo_oracle_kd.functional import collapse_path, ctc_greedy_path, spike_times

BLANK = len(tiny.LABELS)


def test_the_branch_of_a_causal_student_spikes_within_a_frame_of_the_student(tone_corpus):
    config = streaming_config(tone_corpus)
    config.train_ds.batch_size = 16  # an epoch is one batch
    distillation = callback({'self': 'oracle', 'start_below': 2.0, 'ramp': 10})
    seen = watch_step(distillation)
    fit(distillation, config, 130, log_every_n_steps=130)
    step, heard = seen['step'], seen['heard']
    found = {}
    for side, log_probs in (('student', step.log_probs), ('branch', heard.log_probs)):
        path = ctc_greedy_path(log_probs.detach(), step.lengths)
        found[side] = [*collapse_path(path, BLANK), spike_times(path, BLANK)[0]]
    compared, distances = 0, []
    for row, (labels, length) in enumerate(zip(step.transcripts.labels.tolist(), step.transcripts.lengths.tolist())):
        said = {side: labels_[row, : int(counts[row])].tolist() for side, (labels_, counts, _) in found.items()}
        if said['student'] == said['branch'] == labels[:length]:
            times = [frames[row, :length] for _, _, frames in found.values()]
            distances += (times[0] - times[1]).abs().tolist()
            compared += 1
    assert compared >= 12, "both have learned the text of most utterances"
    assert max(distances) <= 1


def test_a_student_with_sub_words_is_taught_and_saved_as_a_stock_model(tone_corpus, tmp_path):
    config = tiny.with_tokenizer(calm_config(tone_corpus), tiny.train_tokenizer(tmp_path / 'tokenizer'))
    distillation = callback(CALM_ORACLE, {'occupancy': {'weight': 0.5}})
    trainer = tiny.trainer(3, callbacks=[distillation], log_every_n_steps=1)
    student = tiny.ctc_model(config, trainer, cls=EncDecCTCModelBPE)
    seen = watch_step(distillation)
    trainer.fit(student)
    terms, classes = logged(trainer), len(student.tokenizer.vocab) + 1
    assert seen['heard'].log_probs.shape[2] == classes and seen['own']['oracle_loss'].losses.isfinite().any()
    assert all(terms[name] > 0 for name in ('oracle_loss', 'occupancy_weighted', 'label_loss'))
    student.save_to(str(tmp_path / 'student.nemo'))
    again = EncDecCTCModelBPE.restore_from(str(tmp_path / 'student.nemo'))
    assert sorted(again.state_dict()) == sorted(student.state_dict()) and not hasattr(student, GUEST)


def test_in_bfloat16_the_terms_are_finite_and_near_those_of_float32(tone_corpus):
    found, dtypes = {}, set()

    def note(trainer, student, optimizer):
        dtypes.update((p.dtype, p.grad.dtype) for name, p in student.named_parameters() if GUEST in name)

    for precision in ('32-true', 'bf16-mixed'):
        distillation, terms = callback({**CALM_ORACLE, 'gradients': 'both'}), []
        look = LambdaCallback(
            on_train_batch_end=lambda trainer, *_, terms=terms: terms.append(logged(trainer)),
            on_before_optimizer_step=note,
        )
        seen = watch_step(distillation)
        fit(distillation, calm_config(tone_corpus), 5, callbacks=[look], precision=precision)
        assert seen['heard'].log_probs.dtype == torch.float32
        found[precision] = terms
    assert dtypes == {(torch.float32, torch.float32)}
    for expected, mixed in zip(found['32-true'], found['bf16-mixed']):
        for name in ('label_loss', 'oracle_loss', 'softmax_l2', 'loss'):
            assert math.isfinite(mixed[name]) and mixed[name] == pytest.approx(expected[name], rel=0.05)
