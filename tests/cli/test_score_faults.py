# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The command `score` where something is wrong: parts that do not fit, changed outputs, bad audio, damaged teachers, signals."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import forks
import numpy as np
import pytest
import soundfile
import tiny
from processes import children_of, have_ended

from nemo_oracle_kd.bridge.restore import restore_frozen
from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.corpus.manifest import read_manifest, write_manifest
from nemo_oracle_kd.labelling.files import dropped_path, journal_path
from nemo_oracle_kd.labelling.format import header_path, read_header
from nemo_oracle_kd.labelling.manifest import score_manifest
from nemo_oracle_kd.labelling.model_scorer import model_scorer
from nemo_oracle_kd.labelling.scorer import ScoringSettings


def _score(teacher, manifest, output, *options):
    words = [
        'score',
        '--teacher',
        teacher,
        '--manifest',
        manifest,
        '--output',
        output,
        '--device',
        'cpu',
        '--reference',
    ]
    return main([str(word) for word in (*words, *options)])


@pytest.fixture(scope='module')
def parts(tone_teacher, tone_corpus, tmp_path_factory):
    """A folder with the whole (whole.jsonl) and the three parts of out.jsonl; not to be changed."""
    folder = tmp_path_factory.mktemp('parts')
    assert _score(tone_teacher, tone_corpus, folder / 'whole.jsonl', '--min-words', '2') == 0
    for part in range(3):
        options = ['--min-words', '2', '--shards', 3, '--shard', part]
        assert _score(tone_teacher, tone_corpus, folder / 'out.jsonl', *options) == 0
    return folder


@pytest.fixture
def copied(parts, tmp_path):
    """A copy of the parts, and their names."""
    folder = shutil.copytree(parts, tmp_path / 'copy')
    return folder / 'out.jsonl', [folder / f'out.jsonl.{part}-of-3' for part in range(3)]


def test_parts_are_merged_to_the_bytes_and_the_header_of_the_whole(copied, capsys):
    output, parts = copied
    assert main(['score', '--merge', str(output)]) == 0
    whole = output.with_name('whole.jsonl')
    assert output.read_bytes() == whole.read_bytes() and read_header(output) == read_header(whole)
    assert all(part.is_file() for part in parts)
    assert main(['score', '--merge', str(output)]) == 2
    assert 'exists already' in capsys.readouterr().err
    named = [str(parts[i]) for i in (2, 0, 1)]
    assert main(['score', '--merge', str(output.with_name('named.jsonl')), *named]) == 0
    assert output.with_name('named.jsonl').read_bytes() == whole.read_bytes()
    assert main(['score', '--merge', named[0], *named, '--overwrite']) == 2
    assert 'is an input' in capsys.readouterr().err


@pytest.mark.parametrize(
    'fault, sentence',
    [
        ('missing', 'of 3 parts there is no part 1: score it with --shards 3 --shard 1'),
        ('doubled', 'are both part 0 of 3'),
        ('changed', 'was changed after it was scored'),
        ('no header', 'has no header'),
        ('unfinished', 'is not finished'),
        ('another run', 'belongs to another run'),
        ('another count', 'give the parts of one run'),
        ('none', 'there are no parts'),
    ],
)
def test_parts_that_do_not_make_a_whole_are_refused(copied, tone_teacher, tone_corpus, capsys, fault, sentence):
    output, parts = copied
    if fault == 'missing':
        parts[1].unlink()
    elif fault == 'doubled':
        for path in (parts[1], header_path(parts[1])):
            path.write_bytes(Path(str(path).replace('1-of-3', '0-of-3')).read_bytes())
    elif fault == 'changed':
        parts[1].write_text(parts[1].read_text().replace('teacher_log_prob": -', 'teacher_log_prob": -1'))
    elif fault == 'no header':
        header_path(parts[1]).unlink()
    elif fault == 'unfinished':
        journal_path(parts[1]).touch()
    elif fault == 'another run':
        assert _score(tone_teacher, tone_corpus, output, '--shards', 3, '--shard', 1, '--overwrite') == 0
    elif fault == 'another count':
        shutil.move(parts[1], f'{output}.1-of-2')
        header = json.loads(header_path(parts[1]).read_text())
        header_path(f'{output}.1-of-2').write_text(json.dumps({**header, 'shard': [1, 2]}))
    else:
        for part in parts:
            part.unlink()
    assert main(['score', '--merge', str(output)]) == 2
    error = capsys.readouterr().err
    assert sentence in error and 'Traceback' not in error and not output.exists()


def test_merging_takes_no_teacher_and_scoring_needs_one(tmp_path, capsys):
    assert main(['score', '--merge', 'out.jsonl', '--teacher', 'a.nemo']) == 2
    assert 'leave --teacher out' in capsys.readouterr().err
    assert main(['score', '--manifest', 'm.jsonl']) == 2
    assert '--teacher and --output must be given' in capsys.readouterr().err


def test_a_finished_output_that_was_changed_by_hand_is_not_kept_as_it_is(copied, tone_teacher, tone_corpus, capsys):
    output = copied[0].with_name('whole.jsonl')
    assert _score(tone_teacher, tone_corpus, output, '--min-words', '2') == 0
    row = json.loads(output.read_text().splitlines()[0])
    output.write_text(output.read_text().replace(row['text'], 'dd dd', 1))
    assert _score(tone_teacher, tone_corpus, output, '--min-words', '2') == 2
    assert 'was changed after it was scored' in capsys.readouterr().err and 'dd dd' in output.read_text()
    assert _score(tone_teacher, tone_corpus, output, '--min-words', '2', '--overwrite') == 0
    assert output.read_bytes() == copied[0].with_name('whole.jsonl').read_bytes()
    assert 'dd dd' not in output.read_text()


def test_an_output_that_is_a_link_stays_one_and_overwriting_keeps_the_old_until_the_end(
    parts, tone_teacher, tone_corpus, tmp_path
):
    shutil.copytree(parts, tmp_path / 'real')
    link = tmp_path / 'link.jsonl'
    link.symlink_to('real/whole.jsonl')
    assert _score(tone_teacher, tone_corpus, link, '--overwrite', '--max-words', '1') == 0
    assert link.is_symlink() and (tmp_path / 'real' / 'whole.jsonl').read_text() == ''


def test_audio_that_is_no_audio_is_dropped_for_its_true_reason(tone_teacher, tone_corpus, tmp_path):
    rows = read_manifest(tone_corpus)[:5]
    nan, empty = np.full(8000, 0.1), tmp_path / 'empty.wav'
    nan[4000] = np.nan
    soundfile.write(tmp_path / 'nan.wav', nan, tiny.SAMPLE_RATE, subtype='FLOAT')
    soundfile.write(empty, [], tiny.SAMPLE_RATE)
    rows[1]['audio_filepath'], rows[2]['audio_filepath'] = str(tmp_path / 'nan.wav'), str(empty)
    rows[3]['offset'] = 60.0
    write_manifest(tmp_path / 'in.jsonl', rows)
    assert _score(tone_teacher, tmp_path / 'in.jsonl', tmp_path / 'out.jsonl') == 0
    reasons = [row['dropped_because'] for row in read_manifest(dropped_path(tmp_path / 'out.jsonl'))]
    for reason, part in zip(reasons, ('not finite numbers', 'holds no audio at 0 s', 'holds no audio at 60 s')):
        assert reason.startswith('unreadable audio') and part in reason
    assert len(reasons) == 3 and len(read_manifest(tmp_path / 'out.jsonl')) == 2


def test_a_teacher_that_gives_no_numbers_is_refused_and_a_row_that_does_is_not_too_short(
    tone_teacher, tone_corpus, tmp_path
):
    model = restore_frozen(str(tone_teacher))
    forward, calls = model.decoder.forward, []

    def sometimes_nan(**arguments):
        calls.append(0)
        return forward(**arguments) * (float('nan') if len(calls) in odd else 1.0)

    model.decoder.forward = sometimes_nan
    scorer = model_scorer(model, ScoringSettings(source='reference'))
    odd = {1}
    report = score_manifest(scorer, tone_corpus, tmp_path / 'some.jsonl')
    assert report.dropped == {"the teacher's score is not a number": 8} and report.rows == 8
    odd = range(1000)
    for _ in range(2):  # the second start reads the journal of the first
        with pytest.raises(ValueError, match=r'none of the 16 scores of this teacher is a number \(NaN\)'):
            score_manifest(scorer, tone_corpus, tmp_path / 'none.jsonl')
    assert not (tmp_path / 'none.jsonl').exists()


@pytest.mark.parametrize('option', ['--nbest', '--beam-size'])
def test_a_beam_that_no_memory_holds_is_refused(option, tone_corpus, tone_teacher, tmp_path, capsys):
    words = ['score', '--teacher', tone_teacher, '--manifest', tone_corpus, '--output', tmp_path / 'o', option, 100000]
    assert main([str(word) for word in words]) == 2
    assert 'must be at most 1000' in capsys.readouterr().err


def test_half_a_character_is_found_before_anything_is_scored(tone_corpus, tone_teacher, tmp_path, capsys):
    lines = tone_corpus.read_text().splitlines()
    lines[3] = lines[3].replace('"text": "', '"note": "\\ud83d", "text": "')
    (tmp_path / 'in.jsonl').write_text('\n'.join(lines) + '\n')
    assert _score(tone_teacher, tmp_path / 'in.jsonl', tmp_path / 'out.jsonl') == 2
    error = capsys.readouterr().err
    assert 'in.jsonl, line 4: holds' in error and 'lone surrogate' in error
    assert [path.name for path in tmp_path.iterdir()] == ['in.jsonl']


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_workers_are_ended_within_seconds_of_a_signal(how, tone_teacher, tone_corpus, tmp_path, monkeypatch):
    forks.fork_workers(monkeypatch)
    manifest, output = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
    write_manifest(manifest, read_manifest(tone_corpus) * 400)
    command = [sys.executable, '-m', 'nemo_oracle_kd', 'score', '--teacher', str(tone_teacher), '--manifest']
    command += [str(manifest), '--output', str(output), '--device', 'cpu', '--workers', '2', '--batch-size', '1']
    process = forks.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    journals = [tmp_path / f'out.jsonl.{part}-of-2.journal' for part in range(2)]
    while not all(journal.exists() and journal.read_bytes().count(b'\n') > 2 for journal in journals):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    children = children_of(process.pid)
    started = time.monotonic()
    process.send_signal(how)
    errors = process.communicate(timeout=20)[1]
    assert process.returncode == (130 if how == signal.SIGINT else 143) and 'Traceback' not in errors
    assert time.monotonic() - started < 8
    assert len(children) >= 2 and have_ended(children)
