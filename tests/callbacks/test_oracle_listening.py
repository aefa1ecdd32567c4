# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Oracles in training are watched on held-out rows: the numbers of `diagnose`, in the log, in a picture, in a warning."""

import numpy as np
import pytest
import tiny
import tiny_oracle
import torch
from nemo.utils import logging as nemo_logging
from tiny_self import CALM_ORACLE, callback, calm_config, calm_transducer, fit

from nemo_oracle_kd.bridge.signals import AudioBatch, Transcripts
from nemo_oracle_kd.callbacks.oracle_listening import PREFIX, OracleListening
from nemo_oracle_kd.distillation.contradictions import ContradictionLosses, texts_of_others
from nemo_oracle_kd.evaluation.diagnosis.conditions import Results, run_batch
from nemo_oracle_kd.evaluation.diagnosis.utterances import Utterance
from nemo_oracle_kd.evaluation.listening_plot import listening_plot
from nemo_oracle_kd.models import EncDecOracleCTCModel, EncDecOracleRNNTModel

VALIDATE = {'limit_val_batches': 1.0, 'val_check_interval': 1.0, 'check_val_every_n_epoch': 1}


def _watched(trainer):
    metrics = trainer.callback_metrics.items()
    return {name.removeprefix(PREFIX): float(value) for name, value in metrics if name.startswith(PREFIX)}


@pytest.mark.parametrize('transducer', [False, True])
def test_the_losses_of_an_oracle_teacher_are_those_of_diagnose(tone_corpus, transducer):
    make = tiny_oracle.oracle_rnnt_config if transducer else tiny_oracle.oracle_config
    cls = EncDecOracleRNNTModel if transducer else EncDecOracleCTCModel
    trainer, teacher = tiny_oracle.fit(make(tone_corpus, tone_corpus), cls, 2, **VALIDATE)
    seen = _watched(trainer)
    assert seen.keys() >= {'own', 'other', 'chance', 'silence'} and all(np.isfinite(list(seen.values())))
    batch = AudioBatch.from_nemo(next(iter(trainer.val_dataloaders)))
    texts = [row[:count] for row, count in zip(batch.transcripts.labels.tolist(), batch.transcripts.lengths.tolist())]
    others, differ = texts_of_others(batch.transcripts)
    partners = [texts.index(row[:count]) for row, count in zip(others.labels.tolist(), others.lengths.tolist())]
    utterances = [Utterance('', str(index), tuple(text)) for index, text in enumerate(texts)]
    found = teacher.held_out_losses(batch)
    teacher.eval()
    results = Results(teacher, len(texts))
    results.add(run_batch(teacher, utterances, partners, list(range(len(texts))), batch.signal, batch.lengths))
    expected = {
        'own': results.nll['true_text'],
        'other': results.partner_nll['swapped_text'],
        'chance': results.partner_nll['no_text'],
        'silence': results.nll['silent_audio'],
    }
    kept = differ.numpy() & np.isfinite(np.stack(list(expected.values()))).all(0)
    assert kept.sum() >= 4
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(found, name).numpy(), values[kept], rtol=1e-4)


@pytest.mark.parametrize('transducer', [False, True])
def test_the_branch_of_a_student_is_measured_at_every_validation_and_drawn(tone_corpus, tmp_path, transducer):
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make, objectives = (calm_transducer, {'one_best_path': {}}) if transducer else (calm_config, {'occupancy': {}})
    config = make(tone_corpus, validation=tone_corpus, batch_size=16)
    distillation, random = callback({**CALM_ORACLE, 'held_out_batches': 1}, objectives), []
    trainer, student = fit(
        distillation,
        config,
        2,
        lambda *_: random.append(torch.get_rng_state()),
        logger=TensorBoardLogger(tmp_path),
        **VALIDATE,
    )
    seen = _watched(trainer)
    assert seen.keys() >= {'own', 'other', 'chance', 'silence'} and all(np.isfinite(list(seen.values())))
    assert seen['own'] != seen['other'] and seen['own'] != seen['silence']
    events = EventAccumulator(trainer.logger.log_dir).Reload()
    assert [event.step for event in events.Scalars(f'{PREFIX}own')] == [0, 1]
    assert [image.step for image in events.Images(f'{PREFIX}listening')] == [1, 2]
    assert student.training and distillation._listening is None
    unwatched = callback({**CALM_ORACLE, 'held_out_batches': 0}, objectives)
    plain, other = fit(unwatched, config, 2, **VALIDATE)
    assert not _watched(plain)
    for left, right in zip(student.state_dict().values(), other.state_dict().values()):
        torch.testing.assert_close(left, right)  # to watch changes nothing


def test_while_the_branch_waits_there_is_nothing_to_measure(tone_corpus):
    config = calm_config(tone_corpus, validation=tone_corpus)
    trainer, _ = fit(callback({'self': 'oracle', 'start_below': 1e-3}), config, 4, **VALIDATE)
    assert not _watched(trainer)


def test_held_out_texts_that_the_branch_cannot_read_do_not_end_the_training(tone_corpus):
    found = []

    def look(trainer, student):
        signal, labels = 0.1 * torch.randn(2, 16000), torch.tensor([[1, 2, 3, 4] * 5, [2, 3, 4, 1] * 5])
        for count in (8, 20):
            texts = Transcripts(labels[:, :count], torch.tensor([count, count]))
            batch = AudioBatch(signal, torch.tensor([16000, 16000]), texts)
            found.append(distillation.distiller.teacher.held_out_losses(batch))

    distillation = callback({**CALM_ORACLE, 'label_encoder': {'max_positions': 8}})
    fit(distillation, calm_config(tone_corpus), 1, look)
    assert found[0].own.isfinite().all() and found[1] is None


def _losses(own, other, chance, silence):
    """Losses of 64 utterances of eight labels around some nats per label."""
    scatter = 1 + 0.1 * torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.full((64,), 8)
    return ContradictionLosses(*(torch.tensor([[own], [other], [chance], [silence]]) * 8 * scatter), labels, labels)


def test_the_warning_comes_when_the_interval_lies_below_the_limit_of_diagnose_and_once(tone_corpus, monkeypatch):
    said = []
    monkeypatch.setattr(nemo_logging, 'warning', lambda text, *_, **__: said.append(text))
    copies, listens = _losses(0.2, 0.3, 3.0, 0.3), _losses(0.2, 2.8, 3.0, 5.0)
    course = iter([listens, copies, copies, listens, copies])
    watch = OracleListening(1, lambda batch: next(course))
    config = calm_config(tone_corpus, validation=tone_corpus, batch_size=16)
    warnings = []

    def look(trainer, student):
        warnings.append(len([text for text in said if 'stopped listening' in text]))

    fit(None, config, 5, look, callbacks=[watch], **VALIDATE)
    shares = [values['heard_share'] for values in watch.history.values()]
    assert shares == pytest.approx([0.93, 0.04, 0.04, 0.93, 0.04], abs=0.03)
    assert warnings == [0, 0, 1, 1, 1] and len([text for text in said if 'stopped listening' in text]) == 2
    values = watch.history[2]
    assert values['heard_share_low'] < values['heard_share'] < values['heard_share_high'] < 0.25
    figure = listening_plot(watch.history)
    assert len(figure.axes[0].lines) == 4 and figure.axes[1].lines[0].get_ydata() == pytest.approx(shares)


def test_numbers_below_zero_are_refused(tone_corpus):
    with pytest.raises(ValueError, match='held_out_batches` must be at least 0'):
        callback({'self': 'oracle', 'held_out_batches': -1})
    with pytest.raises(ValueError, match='held_out_batches` must be at least 0'):
        tiny.ctc_model(tiny_oracle.oracle_config(held_out_batches=-1), cls=EncDecOracleCTCModel)
