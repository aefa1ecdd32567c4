# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Distillation on two processes that train together (DDP, gloo, on the CPU)."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parents[1] / 'helpers'
SECONDS = 300  # far beyond the twenty that it takes: a deadlock ends the test, a busy machine does not


def _two_processes_can_talk() -> bool:
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        return False
    try:
        with socket.socket() as server, socket.socket() as client:
            server.bind(('127.0.0.1', 0))
            server.listen()
            client.connect(server.getsockname())
    except OSError:
        return False
    return True


def _run(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    for name in ('MASTER_ADDR', 'MASTER_PORT', 'WORLD_SIZE', 'RANK', 'LOCAL_RANK', 'NODE_RANK'):
        environment.pop(name, None)
    if 'lo' in (name for _, name in socket.if_nameindex()):
        environment['GLOO_SOCKET_IFNAME'] = 'lo'  # the machine's own name need not resolve
    command = [sys.executable, str(TESTS / 'ddp_training.py'), *arguments]
    log = folder / 'log.txt'
    with log.open('w') as stream:
        # a session of its own, so that the second process, too, ends with the test
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, start_new_session=True)
        try:
            process.wait(SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0, log.read_text()[-3000:]


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.skipif(
    not _two_processes_can_talk(), reason='processes cannot talk to each other through local ports here'
)
def test_two_processes_distil_together_and_the_teacher_is_synchronised_by_none(tone_corpus, tone_teacher, tmp_path):
    from nemo.collections.asr.models import ASRModel, EncDecCTCModel

    _run(tmp_path, str(tone_corpus), str(tone_teacher), str(tmp_path))
    first, second = (json.loads((tmp_path / f'rank_{rank}.json').read_text()) for rank in (0, 1))
    for seen in (first, second):
        assert seen['world_size'] == 2 and seen['updates'] == 3 and seen['wrapper'] == 'DistributedDataParallel'
        assert set(seen['own']) <= set(seen['synchronised']) and not seen['teacher_trains']
        assert set(seen['synchronised']) - set(seen['own']) <= {'encoder.seq_range'}  # NeMo makes it in the first step
        assert all(value > 0 for value in seen['frame_kl'] + seen['loss'])
    # each heard its own half of the corpus, and both hold the same student
    assert first['batches'] != second['batches'] and first['frame_kl'] != second['frame_kl']
    assert first['student_sum'] == pytest.approx(second['student_sum'], rel=1e-6)

    teacher = ASRModel.restore_from(str(tone_teacher))
    untouched = sum(float(value.double().sum()) for value in teacher.state_dict().values())
    assert first['teacher_sum'] == second['teacher_sum'] == pytest.approx(untouched, rel=1e-12)

    student = ASRModel.restore_from(str(tmp_path / 'student.nemo'))
    assert type(student) is EncDecCTCModel
    checkpoint = torch.load(tmp_path / 'last.ckpt', weights_only=False)
    assert sorted(checkpoint['state_dict']) == sorted(student.state_dict())
    assert str(tone_teacher) not in str({**checkpoint, 'state_dict': None})
