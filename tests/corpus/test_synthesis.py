# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The whole corpus: same seed, same bytes, whatever happens on the way; and what is in the files."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import forks
import numpy as np
import pytest
import soundfile
from processes import children_of, have_ended

from nemo_oracle_kd.corpus import read_manifest, synthesis, utterances
from nemo_oracle_kd.corpus.acoustics import speech_rms
from nemo_oracle_kd.corpus.claims import claim_folder
from nemo_oracle_kd.corpus.settings import CorpusSettings
from nemo_oracle_kd.corpus.synthesis import audio_name, synthesize_corpus
from nemo_oracle_kd.corpus.texts import SPLITS
from nemo_oracle_kd.corpus.utterances import render
from nemo_oracle_kd.corpus.voices import ACCENTS
from nemo_oracle_kd.errors import ConfigError

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures('forked_workers')]
ROOT = Path(__file__).parents[2]
SMALL = CorpusSettings(train=24, dev=6, test=10, seed=3)
FEW = replace(SMALL, train=10, dev=2, test=2)


def _hashes(folder):
    """Every file of the corpus, hidden ones too, with its sha256."""
    files = sorted(path for path in Path(folder).rglob('*') if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    for split in SPLITS:  # the babble of this process, which forked workers find ready
        for track in range(utterances._BABBLE_TRACKS):
            utterances._babble(SMALL.seed, SMALL.sample_rate, split, track)
    folder = tmp_path_factory.mktemp('corpus') / 'one'
    parts = synthesize_corpus(folder, SMALL, progress=False)
    assert {split: part['rendered'] for split, part in parts.items()} == {'train': 24, 'dev': 6, 'test': 10}
    return folder


def test_two_runs_give_the_same_bytes_with_one_worker_and_with_two(corpus, tmp_path, monkeypatch):
    synthesize_corpus(tmp_path / 'again', SMALL, workers=2, progress=False)
    expected = _hashes(corpus)
    assert len(expected) == 40 + 3 + 1
    assert _hashes(tmp_path / 'again') == expected
    # a worker as users have it, in a fresh interpreter; how many utterances there are decides about none of them
    monkeypatch.undo()
    synthesize_corpus(tmp_path / 'fresh', FEW, progress=False)
    audio = {name: found for name, found in _hashes(tmp_path / 'fresh').items() if name.endswith('.flac')}
    assert len(audio) == 14 and audio.items() <= expected.items()
    for split in SPLITS:
        rows = (tmp_path / 'fresh' / f'{split}.jsonl').read_bytes()
        assert len(rows) > 100 and (corpus / f'{split}.jsonl').read_bytes().startswith(rows)


def test_another_seed_gives_other_audio_and_texts(corpus, tmp_path):
    synthesize_corpus(tmp_path, replace(FEW, seed=4), progress=False)
    here, there = _hashes(tmp_path), _hashes(corpus)
    assert [name for name in here if here[name] == there[name]] == []
    for split in SPLITS:
        rows = [(folder / f'{split}.jsonl').read_text().splitlines() for folder in (tmp_path, corpus)]
        assert len(rows[0]) >= 2 and not set(rows[0]) & set(rows[1])


def test_an_utterance_rendered_alone_equals_its_file(corpus):
    for split, index in (('test', 9), ('train', 17), ('dev', 0)):
        samples, _ = soundfile.read(corpus / audio_name(split, index), dtype='int16')
        assert np.array_equal(render(SMALL.check(), split, index), samples)


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_is_continued_to_the_same_bytes(corpus, tmp_path, how):
    folder = tmp_path / 'out'
    workers = 1 if how == signal.SIGKILL else 2
    command = [sys.executable, '-m', 'nemo_oracle_kd.cli.main', 'synthesize', str(folder), '--workers', str(workers)]
    for name in ('train', 'dev', 'test', 'seed'):
        command += [f'--{name}', str(getattr(SMALL, name))]
    process = forks.popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(folder.glob('audio/train/*.flac'))) < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(how)
    errors = process.communicate()[1]
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    assert 'Traceback' not in errors
    assert not list(folder.glob('*.jsonl')), "manifests must come last"
    # What a run leaves that dies in the middle of a file.
    (folder / 'audio/train/.train-00020.flac.1.tmp').write_bytes(b'half')
    parts = synthesize_corpus(folder, SMALL, progress=False)
    assert 0 < sum(part['rendered'] for part in parts.values()) < 40
    assert _hashes(folder) == _hashes(corpus)


def test_a_damaged_or_deleted_file_is_made_again(corpus, tmp_path):
    synthesize_corpus(tmp_path, SMALL, progress=False)
    (tmp_path / audio_name('train', 3)).write_bytes(b'')
    (tmp_path / audio_name('test', 1)).unlink()
    half = tmp_path / audio_name('train', 9)
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    assert soundfile.info(half).frames > 0, 'its header still promises everything'
    (tmp_path / 'dev.jsonl').unlink()
    parts = synthesize_corpus(tmp_path, SMALL, progress=False)
    assert {split: part['rendered'] for split, part in parts.items()} == {'train': 2, 'dev': 0, 'test': 1}
    assert _hashes(tmp_path) == _hashes(corpus)


def test_a_run_that_was_killed_between_its_first_two_steps_is_continued(tmp_path):
    folder = tmp_path / 'out'
    record = SMALL.check().record()
    with pytest.raises(TypeError):
        claim_folder(folder, record, ['audio/train', 1])  # the second folder cannot be made
    assert [path.name for path in folder.rglob('*')] != []
    claim_folder(folder, record, ['audio/train'])


def test_a_manifest_that_somebody_changed_is_not_written_over(tmp_path):
    settings = replace(SMALL, train=1, dev=1, test=1)
    synthesize_corpus(tmp_path, settings, progress=False)
    synthesize_corpus(tmp_path, settings, progress=False)
    (tmp_path / 'dev.jsonl').write_text('mine')
    with pytest.raises(ConfigError, match='dev.jsonl was changed after this command wrote it: move it away'):
        synthesize_corpus(tmp_path, settings, progress=False)
    assert (tmp_path / 'dev.jsonl').read_text() == 'mine'


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_a_run_that_is_killed(tmp_path, how):
    folder = tmp_path / 'out'
    command = [sys.executable, '-m', 'nemo_oracle_kd', 'synthesize', str(folder), '--train', '5000', '--workers', '2']
    command += ['--noise', '0']  # or babble would be made first
    process = forks.popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(folder.glob('audio/train/*.flac'))) < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    children = children_of(process.pid)
    assert len(children) >= 2
    process.send_signal(how)
    assert process.wait(10) == (-signal.SIGKILL if how == signal.SIGKILL else 128 + signal.SIGTERM)
    assert have_ended(children)


def test_other_settings_are_refused_and_nothing_is_touched(corpus):
    before = _hashes(corpus)
    with pytest.raises(ConfigError, match=r'other settings \(seed 3 there, 4 now; reverb 0.3 there, 0.5 now\)'):
        synthesize_corpus(corpus, replace(SMALL, seed=4, reverb=0.5), progress=False)
    assert _hashes(corpus) == before


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / 'thesis.tex').write_text('x')
    with pytest.raises(ConfigError, match=r'not empty and holds no corpus \(thesis.tex\)'):
        synthesize_corpus(tmp_path, SMALL, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_a_damaged_settings_file_is_refused(tmp_path):
    (tmp_path / 'corpus.json').write_text('{')
    with pytest.raises(ConfigError, match='corpus.json is damaged'):
        synthesize_corpus(tmp_path, SMALL, progress=False)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / 'file').write_text('x')
    with pytest.raises(OSError, match='cannot be written .*give a folder'):
        synthesize_corpus(tmp_path / 'file' / 'out', SMALL, progress=False)


def test_manifests_have_the_keys_that_nemo_reads_and_relative_paths(corpus):
    for split in SPLITS:
        raw = [json.loads(line) for line in (corpus / f'{split}.jsonl').read_text().splitlines()]
        assert [row['audio_filepath'] for row in raw] == [audio_name(split, i) for i in range(len(raw))]
        for row in read_manifest(corpus / f'{split}.jsonl'):
            assert set(row) == {'audio_filepath', 'duration', 'text', 'speaker', 'kind'}
            assert row['speaker'].split('+')[0] in ACCENTS[split]
            info = soundfile.info(row['audio_filepath'])
            assert (info.samplerate, info.channels, info.format, info.subtype) == (16000, 1, 'FLAC', 'PCM_16')
            assert row['duration'] == pytest.approx(info.frames / 16000, abs=1e-4)


def test_audio_is_neither_silent_nor_clipped_and_levels_vary(corpus):
    levels = []
    for split in SPLITS:
        for row in read_manifest(corpus / f'{split}.jsonl'):
            samples, rate = soundfile.read(row['audio_filepath'])
            assert 0.4 < len(samples) / rate < 8
            assert np.abs(samples).max() < 0.99
            levels.append(20 * np.log10(speech_rms(samples, rate)))
    assert -34.5 < min(levels) < -28 and -22 < max(levels) < -15.5


def test_plain_speech_has_one_level_a_quiet_background_and_does_not_depend_on_the_noise_options(tmp_path):
    settings = CorpusSettings(train=3, dev=1, test=1, plain=True, sample_rate=8000, kinds=('digits', 'dates'))
    assert settings.check() == replace(settings, noise_snr=(0, 1), reverb=1.0, rate=(100, 100)).check()
    synthesize_corpus(tmp_path, settings, progress=False)
    for row in read_manifest(tmp_path / 'train.jsonl'):
        samples, rate = soundfile.read(row['audio_filepath'])
        assert rate == 8000 and row['kind'] in ('digits', 'dates')
        assert 20 * np.log10(speech_rms(samples, rate)) == pytest.approx(-26.0, abs=0.1)
        assert np.abs(samples[: rate // 20]).max() <= 2 / 32768


def test_more_noise_gives_less_contrast_between_speech_and_pauses():
    def contrast(snr):
        settings = CorpusSettings(noise=1.0, noise_snr=(snr, snr), reverb=0.0, seed=SMALL.seed).check()
        values = []
        for index in range(8):
            samples = render(settings, 'train', index).astype(float)
            frames = np.square(samples[: len(samples) // 320 * 320]).reshape(-1, 320).mean(axis=1)
            values.append(10 * np.log10(np.percentile(frames, 95) / np.percentile(frames, 5)))
        return np.mean(values)

    assert contrast(30.0) > contrast(15.0) + 5 > contrast(0.0) + 10


@pytest.mark.parametrize(
    'change, message',
    [
        ({'train': 0}, '--train must be at least 1, not 0'),
        ({'seed': -1}, '--seed must be at least 0, not -1'),
        ({'kinds': ('digit',)}, "kind of sentence 'digit'. Did you mean 'digits'"),
        ({'kinds': ()}, '--kinds is empty'),
        ({'sample_rate': 100}, '--sample-rate must be from 8000 to 48000 Hz, not 100'),
        ({'reverb': 1.5}, '--reverb must be a share of the utterances from 0 to 1, not 1.5'),
        ({'noise': float('nan')}, '--noise must be .*, not nan'),
        ({'noise_snr': (20, 10)}, '--noise-snr must satisfy -30.0 <= LOW <= HIGH <= 100.0 dB, not 20 10'),
        ({'rate': (10, 200)}, '--rate must satisfy 80 <= LOW <= HIGH <= 450 words per minute, not 10 200'),
    ],
)
def test_values_out_of_range_are_refused_before_a_folder_is_made(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        synthesize_corpus(tmp_path / 'out', replace(SMALL, **change), progress=False)
    assert not (tmp_path / 'out').exists()


def test_less_than_one_worker_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='--workers must be at least 1, not 0'):
        synthesize_corpus(tmp_path / 'out', SMALL, workers=0)


def _crashing_render(settings, split, index, calm=False):
    """Renders, but ends its process like a crash of the synthesiser at one utterance that is not spoken calmly."""
    if (split, index) == ('train', 3) and not calm:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    return render(settings, split, index, calm)


def test_an_utterance_in_which_the_synthesiser_crashes_is_spoken_calmly_and_the_others_as_ever(
    corpus, tmp_path, monkeypatch
):
    monkeypatch.setattr(synthesis, 'render', _crashing_render)
    parts = synthesize_corpus(tmp_path, SMALL, workers=2, progress=False)
    assert sum(part['rendered'] for part in parts.values()) == 40
    here, there = _hashes(tmp_path), _hashes(corpus)
    different = {name for name in there if here[name] != there[name]}
    assert different == {audio_name('train', 3), 'train.jsonl'}
    samples, _ = soundfile.read(tmp_path / audio_name('train', 3), dtype='int16')
    np.testing.assert_array_equal(samples, render(SMALL, 'train', 3, calm=True))


def test_a_process_that_is_ended_from_outside_is_no_crash_of_the_synthesiser(tmp_path, monkeypatch):
    monkeypatch.setattr(synthesis, 'render', lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(OSError, match="a worker process was killed, perhaps for lack of memory"):
        synthesize_corpus(tmp_path, SMALL, progress=False)
