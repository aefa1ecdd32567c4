# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A distillation that is killed again and again, at any point of the process, ends where an uninterrupted one ends."""

import json
import os
import random
import signal
import sys
import tempfile
import traceback

import pytest
import tiny
import torch
from nemo.utils.exp_manager import exp_manager
from omegaconf import OmegaConf
from tiny_self import calm_config

from nemo_oracle_kd.bridge.restore import restore_frozen
from nemo_oracle_kd.callbacks import KnowledgeDistillation, RunRecord

UPDATES, KILLS = 6, 20
WEIGHT = {'value': 2.0, 'schedule': 'linear_decay', 'steps': UPDATES, 'final': 0.2}


def train(manifest, teacher, folder):
    """A recipe's training with `resume_if_exists`; an epoch is one batch, because NeMo's loaders begin an epoch anew."""
    # NeMo wants a checkpoint that was cut off, or the older of two last ones, to be removed by hand
    for marker in folder.glob('log/checkpoints/*-unfinished'):
        marker.with_name(marker.name.removesuffix('-unfinished') + '.ckpt').unlink(missing_ok=True)
        marker.unlink()
    for older in sorted(folder.glob('log/checkpoints/*last.ckpt'), key=lambda path: path.stat().st_mtime_ns)[:-1]:
        older.unlink()
    distillation = KnowledgeDistillation({'restore_from': str(teacher)}, {'frame_kl': {'weight': WEIGHT}})
    options = {'callbacks': [distillation, RunRecord(str(folder / 'run'))], 'limit_val_batches': 1.0}
    trainer = tiny.trainer(UPDATES, **options, check_val_every_n_epoch=1, log_every_n_steps=1)
    settings = {
        'exp_dir': str(folder),
        'name': 'log',
        'use_datetime_version': False,
        'create_tensorboard_logger': False,
        'create_checkpoint_callback': True,
        'checkpoint_callback_params': {'monitor': 'val_loss', 'save_top_k': 1, 'save_last': True},
        'resume_if_exists': True,
        'resume_ignore_no_checkpoint': True,
        'disable_validation_on_resume': False,  # or NeMo trains a batch too many after a checkpoint at the end of an epoch
    }
    exp_manager(trainer, OmegaConf.create(settings))
    student = tiny.ctc_model(calm_config(manifest, validation=manifest, batch_size=16), trainer)
    trainer.fit(student)
    student.save_to(str(folder / 'student.nemo'))
    return student


def in_a_fork(seconds, run, *arguments):
    """Calls a function in a fork that dies after so many processor seconds, wherever it is then, or not if they are 0.

    Returns:
        Whether it died, and the processor seconds that it took.
    """
    said = tempfile.TemporaryFile('w+')  # noqa: SIM115
    pid = os.fork()
    if pid == 0:
        sys.stdout = sys.stderr = said
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process at once, as SIGKILL does
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            run(*arguments)
        except BaseException:
            traceback.print_exc()
            said.flush()
            os._exit(1)
        os._exit(0)
    _, status, usage = os.wait4(pid, 0)
    said.seek(0)
    assert status in (0, signal.SIGPROF), said.read()[-3000:]
    return status != 0, usage.ru_utime + usage.ru_stime


def curve(folder):
    """The lines of a run's curve, without the seconds, which differ."""
    rows = [json.loads(line) for line in (folder / 'run' / 'curve.jsonl').read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != 'seconds'} for row in rows]


def weights(path):
    """The weights in a `.nemo` file."""
    return restore_frozen(str(path)).state_dict()


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != 'linux' or torch.cuda.is_available(), reason='needs a fork')
def test_a_training_that_is_killed_at_twenty_random_points_ends_with_the_same_weights_and_curve(
    tone_corpus, tone_teacher, tmp_path, monkeypatch
):
    monkeypatch.delenv('NEMO_EXPM_VERSION', raising=False)  # NeMo's experiment manager leaves it behind

    def same_as_whole(folder):
        assert not in_a_fork(0, train, tone_corpus, tone_teacher, folder)[0]
        assert curve(folder) == curve(whole) and len(curve(whole)) == UPDATES
        wanted, found = weights(whole / 'student.nemo'), weights(folder / 'student.nemo')
        assert wanted.keys() == found.keys()
        for name, value in wanted.items():
            assert torch.equal(value, found[name]), name

    whole = tmp_path / 'whole'
    _, seconds = in_a_fork(0, train, tone_corpus, tone_teacher, whole)
    choose, kills, number = random.Random(0), 0, 0
    while kills < KILLS:
        folder = tmp_path / f'killed{number}'
        moment = choose.uniform(0.01, 0.55 * seconds)
        died, _ = in_a_fork(moment, train, tone_corpus, tone_teacher, folder)
        kills += died
        if not died or kills == KILLS:
            same_as_whole(folder)
            number += 1
