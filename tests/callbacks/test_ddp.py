# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Distillation on two processes that train together (DDP, gloo, on the CPU)."""

import contextlib
import json
import os
import socket
import sys
import time
from pathlib import Path

import batches
import forks
import pytest
import torch

TESTS = Path(__file__).parents[1] / 'helpers'
SECONDS = 300  # far beyond what it takes: a deadlock ends the test, a busy machine does not


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
    """Runs the script in two processes as torchrun starts them."""
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    environment = {**os.environ, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port), 'WORLD_SIZE': '2'}
    environment |= {'PYTHONPATH': os.pathsep.join([str(TESTS.parent), str(TESTS)]), 'NODE_RANK': '0'}
    if 'lo' in (name for _, name in socket.if_nameindex()):
        environment['GLOO_SOCKET_IFNAME'] = 'lo'  # the machine's own name need not resolve
    command = [sys.executable, str(TESTS / 'ddp_training.py'), *arguments]
    log = folder / 'log.txt'
    deadline = time.monotonic() + SECONDS
    with log.open('w') as stream, contextlib.ExitStack() as stack:
        processes = []
        for rank in ('0', '1'):
            of_rank = {**environment, 'RANK': rank, 'LOCAL_RANK': rank}
            process = forks.popen(command, env=of_rank, stdout=stream, stderr=stream)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            if any(process.returncode for process in processes):
                break  # the other one would wait for it
            time.sleep(0.02)
    assert [process.returncode for process in processes] == [0, 0], log.read_text()[-3000:]


@pytest.mark.integration
@pytest.mark.skipif(
    not _two_processes_can_talk(), reason='processes cannot talk to each other through local ports here'
)
def test_two_processes_distil_together_and_the_teacher_is_synchronised_by_none(tone_corpus, tone_teacher, tmp_path):
    from nemo.collections.asr.models import ASRModel, EncDecCTCModel

    teachers = {'ctc': tone_teacher, 'transducer': batches.save_transducer(tmp_path / 'rnnt.nemo')}
    lines = tone_corpus.read_text().splitlines(keepends=True)
    for name, part in (('half_0', lines[:4]), ('half_1', lines[4:8]), ('joined', lines[:8])):
        (tmp_path / f'{name}.jsonl').write_text(''.join(part))
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

    for head in ('ctc', 'transducer'):
        _assert_one_branch(
            *(json.loads((tmp_path / f'oracle_{head}_rank_{rank}.json').read_text()) for rank in (0, 1))
        )

    one, two = (json.loads((tmp_path / f'teacher_rank_{rank}.json').read_text()) for rank in (0, 1))
    assert one['reads'] == two['reads'] == sorted(one['reads']) and len(set(one['reads'])) == 2
    assert one['loss'] == pytest.approx(two['loss'], rel=1e-6) and one['fusion'] == pytest.approx(
        two['fusion'], rel=1e-6
    )
    waits = one['reads'].count(False) + 1  # it reads in the step after
    assert len(set(one['fusion'][:waits])) == 1 and len(set(one['fusion'])) == 1 + len(one['fusion']) - waits

    for case, of_case in teachers.items():
        _assert_gradients_of_the_joined_batch(case, of_case, tmp_path)


def _assert_gradients_of_the_joined_batch(case, teacher, folder):
    """Two batches of four rows in two processes have the gradient and the terms of the eight rows in one."""
    alone = batches.train(case, folder / 'joined.jsonl', teacher, batch_size=8)
    both = [torch.load(folder / f'gradients_{case}_rank_{rank}.pt', weights_only=True) for rank in (0, 1)]
    ((rows, terms),) = alone.terms
    assert rows == 8 and all(of_one[0][0] == 4 for _, of_one in both)
    for name, value in terms.items():
        assert sum(of_one[0][1][name] for _, of_one in both) / 2 == pytest.approx(value, rel=2e-6), name
    assert set(alone.gradients[0]) == set(both[0][0][0]) == set(both[1][0][0])
    for name, expected in alone.gradients[0].items():
        assert torch.equal(both[0][0][0][name], both[1][0][0][name])
        torch.testing.assert_close(
            both[0][0][0][name], expected, rtol=0, atol=1e-6 * max(1.0, float(expected.abs().max()))
        )


def _assert_one_branch(first, second):
    """Both processes start the branch at the same step, though on different batches, and train the same weights."""
    assert first['started'] == second['started'] and first['taught'] == second['taught'] == first['started']
    waits = first['started'].count(False)
    assert 0 < waits < len(first['started']) and first['started'] == sorted(first['started'])
    assert first['batches'] != second['batches'] and first['running'] == pytest.approx(second['running'], rel=1e-6)
    for side in ('student', 'branch'):
        assert first[side] == pytest.approx(second[side], rel=1e-6)
    assert len(set(first['branch'][:waits])) == 1 and len(set(first['branch'])) == 1 + len(first['started']) - waits
    assert first['held_out'] == second['held_out'] and {'val_oracle_own', 'val_oracle_silence'} <= set(
        first['held_out']
    )
