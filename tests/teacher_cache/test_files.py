# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The files of a cache: killed runs, parts that are merged, damage and malice, and what the command refuses and says."""

import json
import os
import random
import signal
import sys
import tarfile
from dataclasses import replace

import pytest
import tiny
import tiny_cache
import torch
from safetensors.torch import load_file, save_file

from nemo_oracle_kd.cli import cache as cli_cache
from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.losses.objectives import OBJECTIVES
from nemo_oracle_kd.teacher_cache import writer
from nemo_oracle_kd.teacher_cache.index import CacheIndex, file_checksum
from nemo_oracle_kd.teacher_cache.reader import TeacherCache, verify_cache
from nemo_oracle_kd.teacher_cache.registry import SIGNALS, choose_options
from nemo_oracle_kd.teacher_cache.writer import RunOptions

RUN = RunOptions(batch_size=2, shard_rows=4)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope='module')
def teacher():
    """A CTC teacher in memory."""
    return tiny.ctc_model(tiny.ctc_config(), seed=4).eval()


@pytest.fixture(scope='module')
def teacher_file(teacher, tmp_path_factory):
    """The same as a file."""
    path = tmp_path_factory.mktemp('file') / 'teacher.nemo'
    teacher.save_to(str(path))
    return path


@pytest.fixture(scope='module')
def whole(teacher, tone_corpus, tmp_path_factory):
    """A finished cache; copies of it are damaged."""
    folder = tmp_path_factory.mktemp('whole')
    tiny_cache.write(teacher, tone_corpus, folder, 'ctc_topk', RUN, top_k=3)
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    folder = tmp_path / 'copy'
    folder.mkdir()
    for name, content in contents(whole).items():
        (folder / name).write_bytes(content)
    return folder


def killed_at(point, prepared, folder):
    """Caches in a fork that kills itself at the point-th time at which it hears, writes, or renames; whether it was killed."""
    pid = os.fork()
    if pid == 0:
        left = iter(range(point, -1, -1))

        def counted(function):
            def stop(*arguments, **options):
                if next(left, 0) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)

            return stop

        os.fsync, os.replace, writer._hear = counted(os.fsync), counted(os.replace), counted(writer._hear)
        writer.Journal.add, writer.Journal.remove = counted(writer.Journal.add), counted(writer.Journal.remove)
        sys.stderr = open(os.devnull, 'w')  # noqa: SIM115
        writer.write_cache(*prepared, folder)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(sys.platform != 'linux' or torch.cuda.is_available(), reason='needs a fork')
def test_a_run_that_is_killed_at_twenty_random_points_gives_the_same_bytes(teacher, tone_corpus, tmp_path):
    manifest = tmp_path / 'six.jsonl'
    manifest.write_text(''.join(tone_corpus.read_text().splitlines(keepends=True)[:6]))
    options = choose_options(teacher, 'occupancy')

    def prepare():
        return teacher, *writer.prepare_cache(teacher, manifest, options, RunOptions(batch_size=2, shard_rows=2))

    writer.write_cache(*prepare(), tmp_path / 'whole')
    wanted = contents(tmp_path / 'whole')
    assert sorted(wanted) == ['index.json', *(f'shard-{n:05d}.safetensors' for n in range(3))]
    choose, prepared = random.Random(0), prepare()
    for number in range(20):
        folder = tmp_path / f'killed{number}'
        folder.mkdir()
        assert killed_at(choose.randrange(19), prepared, folder)
        left = contents(folder)
        assert 'journal' in left
        writer.write_cache(*prepare(), folder)
        assert contents(folder) == wanted


def test_a_finished_cache_is_left_alone_and_mended_where_a_file_is_missing(
    teacher, tone_corpus, copy, whole, monkeypatch
):
    first = sorted(copy.glob('shard-*'))[0]
    first.unlink()
    made = tiny_cache.write(teacher, tone_corpus, copy, 'ctc_topk', RUN, top_k=3).made
    assert made == 4 and contents(copy) == contents(whole)
    monkeypatch.setattr(writer, '_hear', None)  # nothing is heard
    assert tiny_cache.write(teacher, tone_corpus, copy, 'ctc_topk', RUN, top_k=3).made == 0
    with pytest.raises(ConfigError, match='cache of another run .options.top_k was 3 and is now 4'):
        tiny_cache.write(teacher, tone_corpus, copy, 'ctc_topk', RUN, top_k=4)


def test_parts_of_several_machines_are_merged_into_the_whole(teacher, tone_corpus, tmp_path, whole, capsys):
    parts = [tmp_path / f'part{number}' for number in range(3)]
    for number, folder in enumerate(parts):
        tiny_cache.write(teacher, tone_corpus, folder, 'ctc_topk', RunOptions(2, (number, 3), 4), top_k=3)
    assert main(['cache', '--merge', str(tmp_path / 'merged'), *map(str, reversed(parts))]) == 0
    assert verify_cache(tmp_path / 'merged').utterances == 16
    merged, single = TeacherCache(tmp_path / 'merged'), TeacherCache(whole)
    for row in tiny_cache.rows(tone_corpus):
        one, other = merged.read(merged.find(row)), single.read(single.find(row))
        assert one.frames == other.frames
        torch.testing.assert_close(one.data['values'], other.data['values'], rtol=0.05, atol=0.05)  # other batches
    capsys.readouterr()
    for target, names, message in (
        ('new', parts[:2], 'no part 2'),
        ('new', [parts[0], parts[0], parts[1]], 'both part 0'),
        ('merged', parts, 'holds a cache already'),
    ):
        assert main(['cache', '--merge', str(tmp_path / target), *map(str, names)]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()


def damaged_index(change):
    def damage(folder):
        values = json.loads((folder / 'index.json').read_text())
        change(values)
        (folder / 'index.json').write_text(json.dumps(values))

    return damage


def flip(folder):
    path = sorted(folder.glob('shard-*'))[1]
    content = bytearray(path.read_bytes())
    content[-300] ^= 0x10
    path.write_bytes(bytes(content))


def rewritten(**changes):
    """Replaces tensors of a shard, and makes index and checksums agree with it again, as somebody with bad intent would."""

    def damage(folder):
        path = sorted(folder.glob('shard-*'))[0]
        tensors = load_file(str(path))
        for name, value in changes.items():
            tensors[name.replace('__', '.')] = value(tensors[name.replace('__', '.')])
        save_file(tensors, str(path))

        def agree(values):
            values['shards'][0].update(size=path.stat().st_size, sha256=file_checksum(path))

        damaged_index(agree)(folder)

    return damage


DAMAGES = {
    'a shard is missing': (lambda folder: sorted(folder.glob('shard-*'))[0].unlink(), 'is missing|cannot be read'),
    'a shard is cut': (lambda folder: os.truncate(sorted(folder.glob('shard-*'))[0], 900), 'instead of|damaged'),
    'a byte is flipped': (flip, 'damaged'),
    'a pickle': (lambda folder: torch.save({}, sorted(folder.glob('shard-*'))[0]), 'instead of|damaged'),
    'no index': (lambda folder: (folder / 'index.json').unlink(), 'is no cache of a teacher'),
    'index of lists': (lambda folder: (folder / 'index.json').write_text('[[[]]]'), 'is damaged'),
    'index too deep': (lambda folder: (folder / 'index.json').write_text('[' * 100000), 'is damaged'),
    'another version': (damaged_index(lambda values: values.update(version=7)), 'version 7'),
    'a path': (damaged_index(lambda values: values['shards'][0].update(file='../../etc/passwd')), 'is damaged'),
    'an unknown signal': (
        damaged_index(lambda values: values['options'].update(signal='os.system')),
        'none of this package',
    ),
    'an unknown key': (damaged_index(lambda values: values['options'].update(_target_='os.system')), 'is damaged'),
    'another vocabulary': (damaged_index(lambda values: values['teacher'].update(vocabulary=['a'])), 'instead of'),
    'negative lengths': (rewritten(frames=lambda x: -x), 'negative lengths'),
    'lengths beyond the data': (rewritten(rows=lambda x: x + 1), 'instead of'),
    'ids out of range': (rewritten(data__classes=lambda x: x + 90), 'damaged'),
}


@pytest.mark.parametrize('name', DAMAGES)
def test_a_damaged_or_malicious_cache_gives_one_sentence_and_leaves_nothing(copy, name, capsys):
    damage, message = DAMAGES[name]
    damage(copy)
    before = contents(copy)
    assert main(['cache', '--verify', str(copy)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'error: ' in error and any(part in error for part in message.split('|'))
    assert contents(copy) == before


def test_numbers_that_were_made_wrong_with_their_checksums_are_refused(copy):
    from nemo_oracle_kd.teacher_cache import shards

    cache = TeacherCache(copy)
    utterance = cache.read(0)
    wrong = dict(utterance.data, classes=utterance.data['classes'] + 90)
    fields = cache.signal.fields
    path = sorted(copy.glob('shard-*'))[0]
    others = [cache.read(number) for number in (1, 2, 3)]
    content = shards.shard_bytes([shards.Utterance(utterance.key, utterance.frames, 0, 0, wrong), *others], fields)
    path.write_bytes(content)
    damaged_index(lambda values: values['shards'][0].update(size=len(content), sha256=file_checksum(path)))(copy)
    with pytest.raises(ConfigError, match='cannot be those of a teacher'):
        TeacherCache(copy).read(0)


def test_a_path_that_leaves_its_lattice_or_claims_endless_frames_is_refused(tone_corpus, tmp_path):
    model = tiny.rnnt_model(tiny.rnnt_config()).eval()
    tiny_cache.write(model, tone_corpus, tmp_path, 'best_path')
    cache = TeacherCache(tmp_path)
    utterance = cache.read(0)
    for wrong in (
        replace(utterance, frames=2**31 - 1),
        replace(utterance, labels=1),
        replace(utterance, data={**utterance.data, 'places': utterance.data['places'] + 5}),
    ):
        with pytest.raises(ConfigError, match='an alignment that leaves its lattice'):
            cache.signal.check(wrong)


def test_the_command_says_size_and_bounds_and_refuses_before_the_work(teacher_file, tone_corpus, tmp_path, capsys):
    words = ['cache', '--teacher', str(teacher_file), '--manifest', str(tone_corpus), '--signal', 'ctc_topk']
    assert main([*words, '-o', str(tmp_path / 'c'), '--shard-rows', '8', '--temperature', '2']) == 0
    said = capsys.readouterr().out
    predicted, real = (float(line.split()[-2 if 'about' in line else 3]) for line in said.splitlines()[:2])
    assert abs(predicted - real) < 0.3 * real and 'bound: tail at temperature 2' in said
    assert CacheIndex.read(tmp_path / 'c').options.temperatures == (2.0,)
    assert (
        set(cli_cache.SIGNALS)
        == set(SIGNALS)
        == set().union(*(entry.loss.cached_signals for entry in OBJECTIVES.values()))
    )
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('years')
    for more, sentence in (
        (['-o', str(tmp_path / 'mine')], 'not of a cache, such as thesis.txt'),
        (['-o', str(tmp_path / 'mine'), '--overwrite'], 'not of a cache'),
        (['-o', str(teacher_file)], 'is a file'),
        (['-o', str(tmp_path / 'd'), '--shard', '4/4'], 'write I/N'),
        (['-o', str(tmp_path / 'd'), '--signal', 'lattice_topk'], 'is that of a transducer head'),
        (['-o', str(tmp_path / 'd'), '--top-k', '0'], '--top-k must be at least 1'),
        ([], '-o must be given'),
    ):
        assert main([*words, *more]) == 2
        assert sentence in capsys.readouterr().err
    assert (tmp_path / 'mine' / 'thesis.txt').read_text() == 'years' and not (tmp_path / 'd').exists()


def test_rows_that_could_not_be_told_apart_are_refused_and_repeated_ones_are_kept_once(teacher, tone_corpus, tmp_path):
    rows = tiny_cache.rows(tone_corpus)[:3]
    twice = tmp_path / 'twice.jsonl'
    twice.write_text(''.join(json.dumps(row) + '\n' for row in [*rows, rows[0], {**rows[1], 'text': 'a'}]))
    assert tiny_cache.write(teacher, twice, tmp_path / 'c', 'ctc_topk').index.utterances == 3
    other = tmp_path / '000.wav'
    other.write_bytes(open(rows[0]['audio_filepath'], 'rb').read())
    twice.write_text(''.join(json.dumps(row) + '\n' for row in [*rows, {**rows[0], 'audio_filepath': str(other)}]))
    with pytest.raises(ConfigError, match='could not tell them apart'):
        tiny_cache.write(teacher, twice, tmp_path / 'd', 'ctc_topk')
    twice.write_text(json.dumps({**rows[0], 'text': 'xyz'}) + '\n')
    with pytest.raises(ConfigError, match='a text that this teacher cannot write'):
        tiny_cache.write(teacher, twice, tmp_path / 'd', 'occupancy')


def test_speech_in_archives_is_cached_as_that_in_files(teacher, teacher_file, tone_corpus, tmp_path, whole):
    rows = tiny_cache.rows(tone_corpus)
    with tarfile.open(tmp_path / 'audio_0.tar', 'w') as tar:
        for row in rows:
            tar.add(row['audio_filepath'], arcname=os.path.basename(row['audio_filepath']))
            row['audio_filepath'] = os.path.basename(row['audio_filepath'])
    (tmp_path / 'tarred.json').write_text(''.join(json.dumps({**row, 'shard_id': 0}) + '\n' for row in rows))
    words = [
        'cache',
        '--teacher',
        str(teacher_file),
        '--manifest',
        str(tmp_path / 'tarred.json'),
        '--signal',
        'ctc_topk',
    ]
    words += ['--top-k', '3', '--batch-size', '2', '--shard-rows', '4', '-o', str(tmp_path / 'c')]
    assert main([*words, '--tarred-audio-filepaths', str(tmp_path / 'audio_0.tar')]) == 0
    for path in whole.glob('shard-*'):
        assert path.read_bytes() == (tmp_path / 'c' / path.name).read_bytes()
    assert main([*words, '--shar', str(tmp_path)]) == 2


def test_a_teacher_that_gives_nan_is_refused(tone_corpus, tmp_path):
    broken = tiny.ctc_model(tiny.ctc_config()).eval()
    with torch.no_grad():
        next(broken.encoder.parameters()).fill_(float('nan'))
    with pytest.raises(ConfigError, match='the teacher gives NaN for .*wav'):
        tiny_cache.write(broken, tone_corpus, tmp_path / 'c', 'best_path')
