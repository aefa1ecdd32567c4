# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Every command refuses, before any work, to destroy an input or an existing file (see nemo_oracle_kd.corpus.outputs)."""

import os

import pytest
import soundfile

from nemo_oracle_kd.cli.main import main

MODEL, MANIFEST = 'model.nemo', 'rows.jsonl'
#: command -> its words, with OUT for the output, and the file that it would write there
COMMANDS = {
    'evaluate --output': (['evaluate', MODEL, '--manifest', MANIFEST, '--output', 'OUT'], 'OUT'),
    'evaluate --json': (['evaluate', MODEL, '--manifest', MANIFEST, '--json', 'OUT'], 'OUT'),
    'evaluate --output-dir': (['evaluate', MODEL, '--manifest', MANIFEST, '--output-dir', 'OUT'], 'OUT/model.jsonl'),
    'score': (['score', '--teacher', MODEL, '--manifest', MANIFEST, '--output', 'OUT'], 'OUT'),
    'import': (['import', MANIFEST, '--manifest', 'other.jsonl', '--texts-only', '--output', 'OUT'], 'OUT'),
    'filter': (['filter', MANIFEST, '--keep', 'words > 0', '--output', 'OUT'], 'OUT'),
    'filter --report': (['filter', MANIFEST, '--keep', 'words > 0', '--output', 'x', '--report', 'OUT'], 'OUT'),
    'combine': (['combine', MANIFEST, 'other.jsonl', '--how', 'rover', '--output', 'OUT'], 'OUT'),
    'corrupt': (['corrupt', '--manifest', MANIFEST, '--wer', '0.3', '--output', 'OUT'], 'OUT'),
    'manifest': (['manifest', '.', '--output', 'OUT'], 'OUT'),
    'perturb': (['perturb', '--manifest', MANIFEST, '--output', 'OUT'], f'OUT/{MANIFEST}'),
    'diagnose': (['diagnose', MODEL, '--manifest', MANIFEST, '--output', 'OUT'], 'OUT/diagnosis.json'),
    'make-student': (['make-student', MODEL, '--keep', '1', '--by-loss', MANIFEST, '-o', 'OUT'], 'OUT'),
    'make-student --json': (
        ['make-student', MODEL, '--keep', '1', '--by-loss', MANIFEST, '-o', 'new.nemo', '--json', 'OUT'],
        'OUT',
    ),
    'presets': (['presets', 'cp', 'frame_kl', 'OUT'], 'OUT'),
}
#: those whose output may be given the name of a model or a manifest
FILES = [name for name, (_, written) in COMMANDS.items() if written == 'OUT' and name not in ('presets', 'manifest')]
READ_NO_MODEL = ('corrupt', 'import', 'filter', 'filter --report', 'combine')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with files that are worth keeping."""
    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / 'a.wav', [0.0] * 8000, 8000)
    (tmp_path / MODEL).write_text('precious')
    (tmp_path / MANIFEST).write_text('{"audio_filepath": "a.wav", "text": "one two", "duration": 1.0}\n')
    (tmp_path / 'other.jsonl').write_text('{"audio_filepath": "a.wav", "duration": 1.0}\n')
    (tmp_path / 'link').symlink_to(MODEL)
    os.link(tmp_path / MANIFEST, tmp_path / 'hard.jsonl')
    return tmp_path


def _contents(folder):
    return {path.relative_to(folder).as_posix(): path.is_file() and path.read_bytes() for path in folder.rglob('*')}


def _run(name, output, *options):
    return main([*(word.replace('OUT', str(output)) for word in COMMANDS[name][0]), *options])


@pytest.mark.parametrize('name', COMMANDS)
def test_an_existing_file_is_not_replaced_unasked(name, folder, capsys):
    there = folder / COMMANDS[name][1].replace('OUT', 'there')
    there.parent.mkdir(exist_ok=True)
    there.write_text('mine')
    before = _contents(folder)
    assert _run(name, 'there') == 2
    error = capsys.readouterr().err
    # score resumes, so that what lies at its output is first compared with the run
    assert 'exists' in error and '--overwrite' in error and 'Traceback' not in error
    assert _contents(folder) == before


@pytest.mark.parametrize(
    'name, spelling',
    [
        (name, spelling)
        for name in FILES
        for spelling in (f'./{MANIFEST}', f'new/../{MANIFEST}', 'hard.jsonl', MODEL, 'link')
        if name not in READ_NO_MODEL or spelling not in (MODEL, 'link')
    ],
)
def test_an_input_is_never_an_output(name, spelling, folder, capsys):
    (folder / 'new').mkdir()
    before = _contents(folder)
    assert _run(name, spelling, '--overwrite') == 2
    assert 'is an input' in capsys.readouterr().err
    assert _contents(folder) == before and (folder / 'link').is_symlink()


@pytest.mark.parametrize('name', ['evaluate --output-dir', 'perturb'])
def test_a_folder_in_which_the_output_would_be_the_manifest_is_refused(name, folder, capsys):
    (folder / 'model.jsonl').write_text((folder / MANIFEST).read_text())
    words = [word.replace('OUT', '.').replace(MANIFEST, 'model.jsonl') for word in COMMANDS[name][0]]
    before = _contents(folder)
    assert main([*words, '--overwrite']) == 2
    assert 'is an input' in capsys.readouterr().err and _contents(folder) == before


@pytest.mark.parametrize('name', COMMANDS)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(name, folder, capsys):
    before = _contents(folder)
    assert _run(name, f'{MODEL}/out') == 2
    error = capsys.readouterr().err
    assert 'cannot be written' in error and 'is not a folder' in error and 'Traceback' not in error
    assert _contents(folder) == before


def test_corrupt_writes_through_a_device_and_follows_a_link(folder, capsys):
    for _ in range(2):
        assert _run('corrupt', '/dev/null') == 0
    assert os.path.exists('/dev/null') and not os.path.isfile('/dev/null')
    (folder / 'outlink').symlink_to('new.jsonl')
    assert _run('corrupt', 'outlink') == 0
    assert (folder / 'outlink').is_symlink() and 'reference_text' in (folder / 'new.jsonl').read_text()


def test_score_keeps_a_journal_beside_its_output_so_a_device_is_none(folder, capsys):
    assert _run('score', '/dev/null', '--overwrite') == 2
    assert 'journal' in capsys.readouterr().err
    assert not os.path.exists('/dev/null.journal') and os.stat('/dev/null').st_rdev
