# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`score` over audio in archives: the scores are those of the files, and a training reads them with the same archives."""

import gzip
import json
import tarfile
from pathlib import Path

import lhotse
import pytest
import tiny
from omegaconf import open_dict
from tiny_scores import distillation, read_rows, write_rows

from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.labelling.format import read_header

LHOTSE = {'use_lhotse': True, 'force_finite': True, 'use_bucketing': False, 'seed': 0, 'shard_seed': 0}
EXACT = ('text', 'teacher_tokens', 'teacher_fingerprint')


def _score(teacher, output, *words):
    return main(['score', '--teacher', str(teacher), '--nbest', '4', '--output', str(output), *map(str, words)])


def _assert_same_scores(rows, expected):
    """The rows have the scores of the plain manifest, by the name of their audio; other batches may move the last decimal."""
    plain = {Path(row['audio_filepath']).stem: row for row in read_rows(expected)}
    for name, row in rows.items():
        assert [row[key] for key in EXACT] == [plain[name][key] for key in EXACT]
        assert row['teacher_log_prob'] == pytest.approx(plain[name]['teacher_log_prob'], abs=0.002)
        assert row['teacher_nbest'][0] == {'text': row['text'], 'log_prob': row['teacher_log_prob']}


def _train(manifest, **train_ds):
    """Trains a student on full sums; returns the last step's metrics."""
    config = tiny.ctc_config(Path('unused'), hidden=16)
    with open_dict(config):
        config.train_ds.update(manifest_filepath=manifest, **train_ds)
    callback = distillation({'full_sum': {}}, label_loss={'on': 'supervised'})
    options = {'limit_train_batches': 2, 'log_every_n_steps': 1, 'use_distributed_sampler': False}
    trainer = tiny.trainer(2, callbacks=[callback], **options)
    trainer.fit(tiny.ctc_model(config, trainer))
    return {name.removeprefix('train/kd/'): float(value) for name, value in trainer.logged_metrics.items()}


@pytest.fixture(scope='module')
def tarred(tone_corpus, tmp_path_factory):
    """A tarred data set of two archives: folder with `audio_N.tar`, `manifest_N.json` and the manifest of both."""
    folder = tmp_path_factory.mktemp('tarred')
    rows = read_rows(tone_corpus)
    for number, part in enumerate((rows[:8], rows[8:])):
        with tarfile.open(folder / f'audio_{number}.tar', 'w') as tar:
            for row in part:
                tar.add(row['audio_filepath'], arcname=Path(row['audio_filepath']).name)
                row.update(audio_filepath=Path(row['audio_filepath']).name, shard_id=number)
        write_rows(part, folder / f'manifest_{number}.json')
    return write_rows(rows, folder / 'tarred_audio_manifest.json').parent


@pytest.mark.integration
def test_a_tarred_data_set_is_scored_as_its_files_and_trains_with_its_archives(
    tarred, tone_teacher, scored_tones, tmp_path, capsys
):
    archives, output = f'{tarred}/audio__OP_0..1_CL_.tar', tmp_path / 'scored.jsonl'
    words = ['--manifest', tarred / 'tarred_audio_manifest.json', '--tarred-audio-filepaths', archives]
    archive = tarred / 'audio_0.tar'
    audio = archive.read_bytes()
    assert _score(tone_teacher, archive, *words, '--overwrite') == 2  # an archive is an input
    assert 'input' in capsys.readouterr().err and archive.read_bytes() == audio
    assert _score(tone_teacher, output, *words) == 0
    rows = read_rows(output)
    _assert_same_scores({Path(row['audio_filepath']).stem: row for row in rows}, scored_tones / 'decode.jsonl')
    assert [row['audio_filepath'] for row in rows] == [f'{n:03d}.wav' for n in range(16)]
    assert [row['shard_id'] for row in rows] == [0] * 8 + [1] * 8
    joined = tmp_path / 'joined.jsonl'
    for part in ('0', '1'):
        assert _score(tone_teacher, joined, *words, '--shards', '2', '--shard', part) == 0
    assert main(['score', '--merge', str(joined)]) == 0
    assert [row['audio_filepath'] for row in read_rows(joined)] == [row['audio_filepath'] for row in rows]
    assert _train(str(output), is_tarred=True, tarred_audio_filepaths=archives)['full_sum'] > 0

    shards = []
    for number in (0, 1):  # as Lhotse wants the manifests
        shards.append(tmp_path / f'manifest_{number}.json')
        archive = tarred / f'audio_{number}.tar'
        assert _score(tone_teacher, shards[-1], '--manifest', tarred / shards[-1].name, *words[2:3], archive) == 0
    of_shards = [row for path in shards for row in read_rows(path)]
    _assert_same_scores({Path(row['audio_filepath']).stem: row for row in of_shards}, output)
    logged = _train(f'{tmp_path}/manifest__OP_0..1_CL_.json', tarred_audio_filepaths=archives, **LHOTSE)
    assert logged['full_sum'] > 0
    capsys.readouterr()
    assert _score(tone_teacher, tmp_path / 'no.jsonl', *words[:3], tarred / 'audio_1.tar') == 2
    told = capsys.readouterr().err
    assert 'the audio of 8 of 16 rows' in told and 'the first: 000.wav' in told
    assert _score(tone_teacher, tmp_path / 'no.jsonl', *words[:3], tarred / 'audio_7.tar') == 2
    assert 'there is no archive' in capsys.readouterr().err
    assert _score(tone_teacher, tmp_path / 'no.jsonl', *words[:3], tarred / 'manifest_0.json') == 2
    assert 'cannot be read as an uncompressed tar archive' in capsys.readouterr().err


@pytest.mark.integration
def test_parts_of_a_recording_are_found_under_its_name(tarred, tone_teacher, tmp_path):
    row = read_rows(tarred / 'manifest_0.json')[0]
    halves = [
        {**row, 'audio_filepath': f'000-sub{n}.wav', 'offset': offset, 'duration': 0.25}
        for n, offset in enumerate((0.0, 0.2), start=1)
    ]
    manifest, output = write_rows(halves, tmp_path / 'halves.jsonl'), tmp_path / 'scored.jsonl'
    words = ['--manifest', manifest, '--tarred-audio-filepaths', tarred / 'audio_0.tar', tarred / 'audio_1.tar']
    assert _score(tone_teacher, output, *words) == 0
    first, second = read_rows(output)
    assert first['audio_filepath'] == '000-sub1.wav' and first['text'] != second['text']


@pytest.fixture(scope='module')
def shar(tone_corpus, tmp_path_factory):
    """A Lhotse Shar of two shards; the last cut has no supervision, the others a key of their own."""
    folder = tmp_path_factory.mktemp('shar')
    cuts = []
    for number, row in enumerate(read_rows(tone_corpus)):
        cut = lhotse.Recording.from_file(row['audio_filepath']).to_cut()
        if number < 15:
            cut.supervisions.append(lhotse.SupervisionSegment(cut.id, cut.id, 0, cut.duration, text=row['text']))
        cut.utt = number
        cuts.append(cut)
    lhotse.CutSet.from_cuts(cuts).to_shar(folder, fields={'recording': 'flac'}, shard_size=8)
    return folder


def _cuts(folder):
    lines = [line for path in sorted(folder.glob('cuts.*')) for line in gzip.open(path, 'rt')]
    return [json.loads(line) for line in lines]


@pytest.mark.integration
def test_a_shar_gets_new_cuts_with_the_scores_of_its_files_and_trains(
    shar, tone_corpus, tone_teacher, scored_tones, tmp_path, capsys
):
    output = tmp_path / 'scored'
    assert _score(tone_teacher, output, '--shar', shar, '--max-duration', '0.9', '--batch-size', '3') == 0
    assert '2 shards of cuts' in capsys.readouterr().out
    before, after = _cuts(shar), _cuts(output)
    assert [cut['id'] for cut in after] == [cut['id'] for cut in before]
    dropped = [cut for cut in after if 'dropped_because' in cut['custom']]
    kept = [cut for cut in after if 'dropped_because' not in cut['custom']]
    assert dropped and kept and all(cut['duration'] > 0.9 for cut in dropped)
    assert {cut['custom']['dropped_because'] for cut in dropped} == {'too long'}
    for cut in kept:
        assert len(cut['supervisions']) == 1 and 'utt' in cut['custom'] and 'shar_cut' not in cut['custom']
        row = {**cut['custom'], 'text': cut['supervisions'][0]['text']}
        said = [one['text'] for other in before if other['id'] == cut['id'] for one in other['supervisions']]
        assert said == ([row['reference_text']] if 'reference_text' in row else []) and bool(said) == (
            cut['id'] != '015'
        )
        _assert_same_scores({cut['id']: row}, scored_tones / 'decode.jsonl')
    header = read_header(output / 'scored.jsonl')
    assert header['rows'] == len(kept) and header['dropped'] == {'too long': len(dropped)}

    numbers = '_OP_000000..000001_CL_'  # as docs/pseudo_labels.md has it
    fields = {'cuts': f'{output}/cuts.{numbers}.jsonl.gz', 'recording': f'{shar}/recording.{numbers}.tar'}
    assert _train(None, shar_path=fields, **LHOTSE)['full_sum'] > 0

    bytes_before = {path.name: path.read_bytes() for path in output.iterdir()}
    words = ['--shar', shar, '--max-duration', '0.9', '--batch-size', '3']
    assert _score(tone_teacher, output, *words) == 0  # finished: nothing is scored again
    assert {path.name: path.read_bytes() for path in output.iterdir()} == bytes_before
    capsys.readouterr()
    for options, sentence in (
        (['--shar', shar, '--reference'], '1 of 16 cuts'),
        (['--shar', tmp_path], 'has 0 shards of cuts'),
        (['--shar', shar, '--manifest', tone_corpus], '--shar is a data set of its own'),
    ):
        command = ['score', '--teacher', str(tone_teacher), '--output', str(tmp_path / 'no'), *map(str, options)]
        assert main(command) == 2
        assert sentence in capsys.readouterr().err
    assert _score(tone_teacher, shar, '--shar', shar) == 2
    assert 'is the Shar itself' in capsys.readouterr().err
