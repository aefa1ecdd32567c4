# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""When a self-teacher starts, and how its branch is found to have stopped listening."""

import pytest
import torch

from nemo_oracle_kd.bridge.signals import EncodedAudio, StudentStep, Transcripts
from nemo_oracle_kd.distillation.contradictions import texts_of_others
from nemo_oracle_kd.distillation.self_teachers.listening import ListeningWatch, heard_share
from nemo_oracle_kd.distillation.self_teachers.oracle_voices import FrameVoice
from nemo_oracle_kd.distillation.self_teachers.start import RunningLoss, Start, ramp
from nemo_oracle_kd.functional import ctc_full_sum


def test_the_running_loss_is_per_label_and_leaves_out_what_has_no_alignment():
    loss = RunningLoss()
    loss.follow(torch.tensor([4.0, 2.0, float('inf')]), torch.tensor([2, 1, 9]))
    assert loss.value == pytest.approx(2.0)
    loss.follow(torch.tensor([3.0]), torch.tensor([3]))
    assert loss.value == pytest.approx(0.95 * 2.0 + 0.05 * 1.0)
    loss.follow(torch.tensor([float('inf')]), torch.tensor([3]))
    assert loss.value == pytest.approx(1.95)


def test_it_opens_once_below_the_threshold_and_for_good():
    start = Start(1.5)
    one = torch.tensor([1])
    assert not start.follow(torch.tensor([2.0]), one, 0)
    assert not start.follow(torch.tensor([0.0]), one, 1)  # 1.9
    opened = [start.follow(torch.tensor([0.0]), one, step) for step in range(2, 12)]
    assert opened.count(True) == 1 and start.since == 2 + opened.index(True)
    start.follow(torch.tensor([99.0]), one, 50)
    assert start.since is not None
    assert Start(None).follow(torch.tensor([99.0]), one, 0)
    again = Start(1.5)
    again.load_state(start.state())
    assert again.since == start.since


def test_the_ramp():
    assert ramp(None, 5, 4) == 0 and ramp(5, 5, 0) == 1
    assert [ramp(5, step, 4) for step in (5, 6, 8, 20)] == [0.25, 0.5, 1.0, 1.0]


def test_texts_of_others_are_marked_where_they_differ():
    texts = Transcripts(torch.tensor([[1, 2, 9], [1, 2, 0], [1, 3, 0]]), torch.tensor([2, 2, 2]))
    others, differ = texts_of_others(texts)
    assert others.labels.tolist() == [[1, 2, 0], [1, 3, 0], [1, 2, 0]]
    assert differ.tolist() == [False, True, True]


def test_texts_of_similar_length_are_exchanged():
    texts = Transcripts(torch.arange(20).view(4, 5), torch.tensor([5, 1, 4, 2]))
    others, differ = texts_of_others(texts)
    assert others.lengths.tolist() == [4, 2, 5, 4] and others.labels[:, 0].tolist() == [10, 15, 0, 10]
    assert differ.all()
    assert not texts_of_others(Transcripts(texts.labels[:1], texts.lengths[:1]))[1].any()


def test_the_heard_share():
    assert heard_share(0.2, 2.2, 2.2) == pytest.approx(1.0)
    assert heard_share(0.2, 0.2, 2.2) == pytest.approx(0.0)
    assert heard_share(2.1, 1.0, 2.2) is None


class _Spoken(FrameVoice):
    """Says the labels that it is given, or those of the audio, with certainty."""

    def __init__(self, copies):
        self.copies, self.branch = copies, torch.nn.Linear(1, 1)

    def say(self, heard, texts):
        assert not self.branch.training, "no dropout and no corruption during the measurement"
        if not self.copies:
            return EncodedAudio(heard.lengths, (3.0 * heard.log_probs).log_softmax(-1))
        frames = torch.zeros(len(texts.labels), int(heard.lengths.max()), 4)
        frames[:, :, 3] = 4.0
        for row, (text, count) in enumerate(zip(texts.labels.tolist(), texts.lengths.tolist())):
            for place, label in enumerate(text[:count]):
                frames[row, 2 * place, label] = 12.0
        return EncodedAudio(heard.lengths, frames.log_softmax(-1))


def _step():
    frames = torch.zeros(3, 8, 4)
    frames[:, :, 3] = 1.0
    texts = Transcripts(torch.tensor([[0, 1], [2, 0], [1, 2]]), torch.tensor([2, 2, 2]))
    for row, text in enumerate(texts.labels.tolist()):
        for place, label in enumerate(text):
            frames[row, 3 * place, label] = 4.0
    lengths = torch.tensor([8, 8, 8])

    def score(log_probs, lengths, texts):
        return ctc_full_sum(log_probs, texts.labels, lengths, texts.lengths, 3)

    log_probs = frames.log_softmax(-1)
    return StudentStep('ctc', torch.ones(3), texts, lengths, None, log_probs, score)


def test_a_copying_branch_is_told_from_a_listening_one():
    shares = {}
    for copies in (True, False):
        watch, metrics = ListeningWatch(), {}
        voice, step = _Spoken(copies), _step()
        watch.look(voice, EncodedAudio(step.lengths, step.log_probs), step, metrics)
        shares[copies] = metrics['oracle_heard_share']
        assert voice.branch.training and {'oracle_own', 'oracle_wrong', 'oracle_chance'} <= set(metrics)
    assert shares[True] < 0.25 < 1.0 <= shares[False]


def test_the_warning_comes_after_three_looks_in_a_row_and_once(monkeypatch):
    said = []
    from nemo.utils import logging as nemo_logging

    monkeypatch.setattr(nemo_logging, 'warning', lambda text, *_, **__: said.append(text))
    watch = ListeningWatch()
    for share in (0.1, 0.1, 0.9, 0.1, 0.1):
        watch.judge(share)
    assert not said
    for share in (0.1, 0.1, 0.1):
        watch.judge(share)
    assert len(said) == 1 and 'has stopped listening' in said[0]
    for share in (0.9, 0.1, 0.1, 0.1):
        watch.judge(share)
    assert len(said) == 2
