# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the runner with real subprocesses, killed in the middle and started again."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from nemo_oracle_kd.experiments.jobs import Job
from nemo_oracle_kd.experiments.progress import describe, last_metrics
from nemo_oracle_kd.experiments.runner import JobRunner, JobsFailed
from nemo_oracle_kd.folder_lock import FolderBusy


def job_that_appends(name, path, text='x', **keywords):
    """A job that adds ``text`` to its output, so that the file tells how often it ran."""
    code = f"open({str(path)!r}, 'a').write({text!r})"
    return Job(name, [sys.executable, '-c', code], outputs=[path], **keywords)


def states(results):
    return {name: result.state for name, result in results.items()}


@pytest.mark.unit
def test_finished_jobs_are_kept_and_changed_ones_run_again_with_their_dependents(tmp_path):
    def jobs(text):
        return [
            job_that_appends('teacher', tmp_path / 'teacher', text),
            job_that_appends('student', tmp_path / 'student', depends=['teacher']),
            job_that_appends('alone', tmp_path / 'alone'),
        ]

    assert set(states(JobRunner(jobs('a'), tmp_path / 'jobs').run()).values()) == {'done'}
    assert set(states(JobRunner(jobs('a'), tmp_path / 'jobs').run()).values()) == {'kept'}
    after = states(JobRunner(jobs('b'), tmp_path / 'jobs').run())
    assert after == {'teacher': 'done', 'student': 'done', 'alone': 'kept'}
    assert (tmp_path / 'teacher').read_text() == 'b'
    assert (tmp_path / 'alone').read_text() == 'x'
    (tmp_path / 'teacher').unlink()
    assert states(JobRunner(jobs('b'), tmp_path / 'jobs').run()) == {
        'teacher': 'done',
        'student': 'done',
        'alone': 'kept',
    }


@pytest.mark.unit
def test_a_failed_job_stops_its_dependents_only_and_is_told_with_the_end_of_its_log(tmp_path):
    jobs = [
        Job('bad', [sys.executable, '-c', "print('the reason is here'); raise SystemExit(3)"]),
        job_that_appends('after', tmp_path / 'after', depends=['bad']),
        job_that_appends('other', tmp_path / 'other'),
        Job('empty', [sys.executable, '-c', 'pass'], outputs=[tmp_path / 'never']),
        Job('absent', [str(tmp_path / 'no-such-program')]),
        job_that_appends('no_input', tmp_path / 'x', inputs=[tmp_path / 'no-such-manifest']),
    ]
    runner = JobRunner(jobs, tmp_path / 'jobs')
    with pytest.raises(JobsFailed) as caught:
        runner.run()
    message = str(caught.value)
    assert "Job 'bad' failed with exit status 3" in message and 'the reason is here' in message
    assert str(tmp_path / 'jobs' / 'bad.log') in message
    assert "Job 'empty' ended without writing" in message
    assert "Job 'absent' could not be started" in message
    assert "no-such-manifest' does not exist" in message
    assert 'Not run because of that: after' in message
    assert (tmp_path / 'other').is_file() and not (tmp_path / 'after').exists()


@pytest.mark.unit
def test_no_more_jobs_run_at_a_time_than_allowed_each_on_one_thread(tmp_path):
    code = textwrap.dedent("""
        import os, sys, time, pathlib
        folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
        (folder / ('on_' + name)).touch()
        time.sleep(0.4)
        count = len(list(folder.glob('on_*')))
        (folder / ('on_' + name)).unlink()
        (folder / ('count_' + name)).write_text(f"{count} {os.environ['OMP_NUM_THREADS']} {os.environ['MARK']}")
        """)
    jobs = [
        Job(f'j{i}', [sys.executable, '-c', code, str(tmp_path), str(i)], environment={'MARK': str(i)})
        for i in range(5)
    ]
    JobRunner(jobs, tmp_path / 'jobs', max_parallel=2).run()
    rows = [(tmp_path / f'count_{i}').read_text().split() for i in range(5)]
    assert max(int(row[0]) for row in rows) == 2
    assert [row[1] for row in rows] == ['1'] * 5
    assert [row[2] for row in rows] == [str(i) for i in range(5)]


SCRIPT = """
import sys
from pathlib import Path
from nemo_oracle_kd.experiments.jobs import Job
from nemo_oracle_kd.experiments.runner import JobRunner
from nemo_oracle_kd.folder_lock import FolderBusy

folder = Path(sys.argv[1])
worker = '''
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / "worker.pid").write_text(str(os.getpid()))
scratch = folder / "scratch"
scratch.mkdir(exist_ok=True)
step = len(list(scratch.iterdir()))      # resumes where the last start stopped
while step < 10:
    time.sleep(float(sys.argv[2]))
    (scratch / str(step)).write_text(str(os.getpid()))
    step += 1
(folder / "long").write_text("done")
'''
jobs = [
    Job("short", [sys.executable, "-c", f"open({str(folder / 'short')!r}, 'a').write('x')"],
        outputs=[folder / "short"]),
    Job("long", [sys.executable, "-c", worker, str(folder), "0.1"], outputs=[folder / "long"], depends=["short"],
        scratch=[folder / "scratch"]),
]
try:
    JobRunner(jobs, folder / "jobs", progress=False).run()
except KeyboardInterrupt as error:
    print(error)
    raise SystemExit(130)
"""


def start(tmp_path):
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2]))
    return subprocess.Popen(
        [sys.executable, '-c', SCRIPT, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    )


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, 'waited in vain'
        time.sleep(0.02)


def is_alive(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@pytest.mark.unit
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='looks at /proc')
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_killed_in_the_middle_leaves_no_child_and_goes_on_when_started_again(tmp_path, number):
    first = start(tmp_path)
    wait_for(lambda: len(list((tmp_path / 'scratch').glob('*'))) >= 3)
    first.send_signal(number)
    output, _ = first.communicate(timeout=20)
    worker = int((tmp_path / 'worker.pid').read_text())
    wait_for(lambda: not is_alive(worker))
    if number != signal.SIGKILL:
        assert first.returncode == 130
        assert '1 of 2 jobs are done' in output and 'Start the same command again' in output
    reached = len(list((tmp_path / 'scratch').iterdir()))
    assert 3 <= reached < 10 and not (tmp_path / 'long').exists()

    second = start(tmp_path)
    second.communicate(timeout=30)
    assert second.returncode == 0
    assert (tmp_path / 'short').read_text() == 'x'  # the finished job did not run twice
    steps = [path.read_text() for path in (tmp_path / 'scratch').iterdir()]
    assert steps.count(str(worker)) == reached and len(steps) == 10  # the interrupted one went on from its scratch
    assert json.loads((tmp_path / 'jobs' / 'long.json').read_text())['finished'] is True


@pytest.mark.unit
def test_scratch_of_a_changed_job_is_removed_before_it_starts(tmp_path):
    scratch = tmp_path / 'scratch'
    for flag in ('a', 'b'):
        code = f"import os, sys; os.mkdir({str(scratch)!r}); sys.exit(1)"
        with pytest.raises(
            JobsFailed, match='exit status 1'
        ):  # mkdir itself would fail if the folder were still there
            JobRunner([Job('j', [sys.executable, '-c', code, flag], scratch=[scratch])], tmp_path / 'jobs').run()
        assert 'FileExistsError' not in (tmp_path / 'jobs' / 'j.log').read_text()


@pytest.mark.unit
@pytest.mark.parametrize('damaged', [True, False])
def test_a_checkpoint_cut_off_while_it_was_written_does_not_block_the_job(tmp_path, damaged, capsys):
    scratch = tmp_path / 'scratch'
    torch.save({'step': 7}, tmp_path / 'whole.ckpt')
    # As a training does: it resumes from its checkpoint, whatever that is; the first start leaves one and ends badly.
    code = textwrap.dedent(f"""
        import pathlib, sys, zipfile
        folder = pathlib.Path({str(tmp_path)!r})
        path, starts = folder / 'scratch' / 'logs' / 'a-last.ckpt', folder / 'starts'
        if path.exists():
            zipfile.ZipFile(path).close()
            sys.exit()
        path.parent.mkdir(parents=True)
        path.write_bytes((folder / 'whole.ckpt').read_bytes()[: {-200 if damaged else None}])
        first = not starts.exists()
        starts.open('a').write('x')
        sys.exit(first)
        """)
    job = Job('j', [sys.executable, '-c', code], scratch=[scratch])
    with pytest.raises(JobsFailed):
        JobRunner([job], tmp_path / 'jobs').run()
    assert JobRunner([job], tmp_path / 'jobs').run()['j'].state == 'done'
    assert (tmp_path / 'starts').read_text() == ('xx' if damaged else 'x')
    assert ("starts from its beginning, because its checkpoint" in capsys.readouterr().err) == damaged


@pytest.mark.unit
def test_two_runs_in_one_folder_are_refused(tmp_path):
    first = start(tmp_path)
    wait_for(lambda: (tmp_path / 'scratch').exists())
    try:
        with pytest.raises(FolderBusy, match='another run is active in'):
            JobRunner([Job('a', ['true'])], tmp_path / 'jobs').run()
    finally:
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=20)


@pytest.mark.unit
def test_callback_sees_done_and_kept_jobs(tmp_path):
    for expected in ('done', 'kept'):
        seen = []
        runner = JobRunner(
            [job_that_appends('a', tmp_path / 'a')],
            tmp_path / 'jobs',
            on_finished=lambda job, result, seen=seen: seen.append((job.name, result.state)),
        )
        runner.run()
        assert seen == [('a', expected)]


@pytest.mark.unit
def test_progress_reads_the_last_complete_line_of_a_run_record(tmp_path):
    path = tmp_path / 'curve.jsonl'
    assert last_metrics(path) == {} and last_metrics(None) == {}
    path.write_text(
        '{"update": 10, "val_wer": 0.9}\n{"update": 20, "max_updates": 50, "val_wer": 0.425}\n{"update": 3'
    )
    assert describe(last_metrics(path)) == 'update 20/50, val WER 42.5 %'


@pytest.mark.unit
def test_progress_in_a_log_file_is_one_line_per_event(tmp_path, capsys):
    JobRunner([job_that_appends('a', tmp_path / 'a')], tmp_path / 'jobs').run()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == 'a: started' and lines[1].startswith('a: done')
