# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of job order, fingerprints and records."""

import pytest

from nemo_oracle_kd.experiments.jobs import Job, JobRecord, fingerprints, order_jobs


@pytest.mark.unit
def test_jobs_come_after_what_they_depend_on_and_else_in_the_order_given():
    jobs = [Job('student', ['x'], depends=['teacher']), Job('alone', ['x']), Job('teacher', ['x'])]
    assert [job.name for job in order_jobs(jobs)] == ['alone', 'teacher', 'student']


@pytest.mark.unit
def test_bad_sets_of_jobs_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="two jobs are called 'a': give every job its own name"):
        order_jobs([Job('a', ['x']), Job('a', ['y'])])
    with pytest.raises(ValueError, match="depends on 'b'"):
        order_jobs([Job('a', ['x'], depends=['b'])])
    with pytest.raises(ValueError, match='depend on each other: break the cycle'):
        order_jobs([Job('a', ['x'], depends=['b']), Job('b', ['x'], depends=['a'])])
    with pytest.raises(ValueError, match='cannot name a job'):
        Job('../a', ['x'])
    with pytest.raises(ValueError, match='list of program'):
        Job('a', 'python train.py')
    with pytest.raises(ValueError, match="'outputs' of job 'a'"):
        Job('a', ['x'], outputs='model.nemo')


@pytest.mark.unit
def test_fingerprint_follows_command_environment_inputs_and_dependencies(tmp_path):
    config = tmp_path / 'config.yaml'
    config.write_text('lr: 1')

    def prints(command=('x',), environment=None, **other):
        teacher = Job('teacher', list(command), environment=environment or {}, inputs=[config])
        return fingerprints(
            order_jobs([teacher, Job('student', ['y'], depends=['teacher'], **other), Job('alone', ['z'])])
        )

    before = prints()
    assert prints() == before
    for after in (prints(command=('x', 'lr=2')), prints(environment={'A': '1'})):
        assert after['teacher'] != before['teacher'] and after['student'] != before['student']
        assert after['alone'] == before['alone']
    config.write_text('lr: 2')
    assert prints()['teacher'] != before['teacher'] and prints()['alone'] == before['alone']


@pytest.mark.unit
def test_an_input_that_another_job_makes_does_not_change_the_fingerprint_by_appearing(tmp_path):
    made = tmp_path / 'train.jsonl'
    jobs = [Job('make', ['true'], outputs=[made]), Job('use', ['true'], inputs=[made], depends=['make'])]
    before = fingerprints(jobs)
    made.write_text('content')
    assert fingerprints(jobs) == before
    assert fingerprints([Job('make', ['false'], outputs=[made]), jobs[1]])['use'] != before['use']


def test_a_record_survives_a_round_trip_and_a_broken_one_counts_as_none(tmp_path):
    path = tmp_path / 'group' / 'job.json'
    JobRecord('abc', True, 1.5).write(path)
    assert JobRecord.read(path) == JobRecord('abc', True, 1.5)
    path.write_text('{"fingerprint": "ab')
    assert JobRecord.read(path) is None
    assert JobRecord.read(tmp_path / 'absent.json') is None
