# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The command `score`: what it writes, that it survives SIGKILL, and what it refuses."""

import shutil

import forks
import pytest
import tiny
import torch
from killed_scoring import assert_it_continues, kill_in_the_middle

from nemo_oracle_kd.bridge.restore import restore_frozen
from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.corpus.manifest import read_manifest, write_manifest
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.files import dropped_path, journal_path
from nemo_oracle_kd.labelling.format import (
    Fingerprint,
    RowFilter,
    model_fingerprint,
    read_header,
    row_hash,
    word_error_rate,
)


@pytest.fixture(scope='module')
def rnnt_teacher(tmp_path_factory):
    """An untrained transducer that emits blanks often enough to decode quickly, as a `.nemo` file."""
    path = tmp_path_factory.mktemp('rnnt') / 'rnnt.nemo'
    model = tiny.rnnt_model(tiny.rnnt_config(hidden=8, stride=4, joint_hidden=8))
    with torch.no_grad():
        model.joint.joint_net[-1].bias[-1] += 2.0
    model.save_to(str(path))
    return path


def _words(teacher, manifest, output, *options):
    required = ['--teacher', teacher, '--manifest', manifest, '--output', output, '--device', 'cpu']
    return ['score', *map(str, required), *map(str, options)]


def _score(teacher, manifest, output, *options):
    return main(_words(teacher, manifest, output, *options))


@pytest.fixture(scope='module')
def scored(tone_teacher, tone_corpus, tmp_path_factory):
    """The tone corpus, decoded and scored by the CTC teacher in one go."""
    output = tmp_path_factory.mktemp('scored') / 'out.jsonl'
    assert _score(tone_teacher, tone_corpus, output, '--nbest', '4', '--batch-size', '3') == 0
    return output


def test_rows_hold_the_best_text_the_nbest_list_and_what_the_manifest_held_before(scored, tone_corpus, tone_teacher):
    before, after = read_manifest(tone_corpus), read_manifest(scored)
    assert [row['audio_filepath'] for row in after] == [row['audio_filepath'] for row in before]
    for old, new in zip(before, after):
        assert new['reference_text'] == old['text'] and new['duration'] == old['duration']
        log_probs = [entry['log_prob'] for entry in new['teacher_nbest']]
        texts = [entry['text'] for entry in new['teacher_nbest']]
        assert 1 <= len(texts) <= 4 and len(set(texts)) == len(texts)
        assert log_probs == sorted(log_probs, reverse=True) and log_probs[0] <= 0
        assert (new['text'], new['teacher_log_prob']) == (texts[0], log_probs[0])
        assert new['teacher_tokens'] == len(new['text'])
        assert new['teacher_row'] == row_hash(new) != row_hash({**new, 'duration': 2 * new['duration']})
        assert log_probs == [round(value, 3) for value in log_probs]
    assert sum(len(row['teacher_nbest']) for row in after) > 1.5 * len(after)
    assert sum(row['text'] == row['reference_text'] for row in after) > len(after) // 2
    fingerprint = Fingerprint.parse(after[0]['teacher_fingerprint'])
    assert fingerprint.same_scores(model_fingerprint(restore_frozen(str(tone_teacher))))
    header = read_header(scored)
    assert header['fingerprint'] == str(fingerprint) and header['rows'] == len(after) and header['dropped'] == {}
    assert not journal_path(scored).exists() and not dropped_path(scored).exists()


def test_references_are_scored_as_the_model_scores_them_and_batches_do_not_matter(
    scored, tone_teacher, tone_corpus, tmp_path
):
    outputs = [tmp_path / f'{size}.jsonl' for size in (1, 5)]
    for size, output in zip((1, 5), outputs):
        assert _score(tone_teacher, tone_corpus, output, '--reference', '--batch-size', size) == 0
    one, five = (read_manifest(output) for output in outputs)
    decoded = {
        (row['audio_filepath'], entry['text']): entry['log_prob']
        for row in read_manifest(scored)
        for entry in row['teacher_nbest']
    }
    known = 0
    for old, a, b in zip(read_manifest(tone_corpus), one, five):
        assert a['text'] == b['text'] == old['text']
        # one unit of the last decimal at most: float32 sums may be ordered differently
        assert a['teacher_log_prob'] == pytest.approx(b['teacher_log_prob'], abs=0.0011)
        if (old['audio_filepath'], old['text']) in decoded:
            known += 1
            assert decoded[old['audio_filepath'], old['text']] == pytest.approx(a['teacher_log_prob'], abs=0.0011)
    assert known > len(one) // 2


def test_a_killed_run_continues_and_ends_with_the_same_bytes(rnnt_teacher, tone_corpus, tmp_path):
    manifest = tmp_path / 'in.jsonl'
    write_manifest(manifest, read_manifest(tone_corpus) * 4)
    options = ['--nbest', '2', '--max-symbols', '2', '--batch-size', '1']
    whole, killed = tmp_path / 'whole.jsonl', tmp_path / 'killed.jsonl'
    assert _score(rnnt_teacher, manifest, whole, *options) == 0

    words = _words(rnnt_teacher, manifest, killed, *options)
    kill_in_the_middle(words, manifest, killed)
    assert _score(rnnt_teacher, manifest, killed, '--nbest', '1') == 2, 'other settings are refused'
    assert_it_continues(words, killed, whole)


def test_a_finished_run_returns_at_once_and_another_teacher_is_refused(
    scored, tone_teacher, rnnt_teacher, tone_corpus, tmp_path, capsys
):
    content = scored.read_bytes()
    assert _score(tone_teacher, tone_corpus, scored, '--nbest', '4') == 0
    assert 'nothing left to score' in capsys.readouterr().out
    assert _score(rnnt_teacher, tone_corpus, scored, '--nbest', '4') == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and 'made by a different run (fingerprint was' in error and '--overwrite' in error
    assert _score(tone_teacher, tone_corpus, tone_corpus, '--overwrite') == 2
    assert 'is an input' in capsys.readouterr().err and tone_corpus.exists()
    stranger = tmp_path / 'stranger.jsonl'
    stranger.write_text('mine')
    assert _score(tone_teacher, tone_corpus, stranger) == 2
    assert 'is not a scored manifest' in capsys.readouterr().err and stranger.read_text() == 'mine'
    assert scored.read_bytes() == content


def test_parts_and_workers_make_the_same_manifest(rnnt_teacher, tone_corpus, tmp_path, monkeypatch):
    options = ['--nbest', '2', '--max-symbols', '2', '--batch-size', '1']
    whole, parts, workers = (tmp_path / f'{name}.jsonl' for name in ('whole', 'parts', 'workers'))
    assert _score(rnnt_teacher, tone_corpus, whole, *options) == 0
    for shard in (1, 0, 2):
        assert _score(rnnt_teacher, tone_corpus, parts, *options, '--shards', 3, '--shard', shard) == 0
    joined = b''.join((tmp_path / f'parts.jsonl.{shard}-of-3').read_bytes() for shard in range(3))
    assert joined == whole.read_bytes()
    # tests/test_packaging.py runs a worker in a fresh interpreter
    forks.fork_workers(monkeypatch)
    assert _score(rnnt_teacher, tone_corpus, workers, *options, '--workers', 2) == 0
    assert workers.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.glob('workers*')) == ['workers.jsonl', 'workers.jsonl.header.json']
    assert _score(rnnt_teacher, tone_corpus, workers, *options, '--workers', 2) == 0


def test_rows_are_filtered_and_what_is_dropped_is_kept_with_the_reason(tone_teacher, tone_corpus, tmp_path):
    manifest, output = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
    rows = read_manifest(tone_corpus)[:6]
    broken = tmp_path / 'broken.wav'
    broken.write_bytes(b'no audio')
    rows[1]['text'] = 'dd dd dd'
    rows[2]['audio_filepath'] = str(broken)
    rows[3]['text'] = 'ab' * 400
    write_manifest(manifest, rows)
    options = ['--reference', '--min-log-prob-per-token', '-3', '--max-duration', rows[0]['duration'] + 100]
    assert _score(tone_teacher, manifest, output, *options) == 0
    reasons = {row['audio_filepath']: row['dropped_because'] for row in read_manifest(dropped_path(output))}
    assert reasons[rows[1]['audio_filepath']] == 'too improbable'
    assert reasons[str(broken)].startswith('unreadable audio')
    assert reasons[rows[3]['audio_filepath']] == 'too short for its labels'
    assert [row['audio_filepath'] for row in read_manifest(output)] == [rows[i]['audio_filepath'] for i in (0, 4, 5)]
    assert read_header(output)['dropped'] == {
        'too improbable': 1,
        'too short for its labels': 1,
        'unreadable audio': 1,
    }


def test_a_text_that_the_teacher_cannot_write_is_refused_or_left_out(tone_teacher, tone_corpus, tmp_path, capsys):
    manifest, output = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
    rows = read_manifest(tone_corpus)[:3]
    rows[1]['text'] = 'ab Xc'
    write_manifest(manifest, rows)
    assert _score(tone_teacher, manifest, output, '--reference') == 2
    error = capsys.readouterr().err
    assert "1 of 3 rows" in error and "'X'" in error and '--skip-unwritable' in error and not output.exists()
    assert _score(tone_teacher, manifest, output, '--reference', '--skip-unwritable') == 0
    assert len(read_manifest(output)) == 2


def test_nbest_lists_are_scored_again_by_another_teacher(scored, rnnt_teacher, tmp_path):
    output = tmp_path / 'again.jsonl'
    assert _score(rnnt_teacher, scored, output, '--rescore') == 0
    for old, new in zip(read_manifest(scored), read_manifest(output)):
        assert {e['text'] for e in old['teacher_nbest']} == {e['text'] for e in new['teacher_nbest']}
        assert new['teacher_nbest'] != old['teacher_nbest'] and new['reference_text'] == old['reference_text']
        assert new['teacher_fingerprint'] != old['teacher_fingerprint']


@pytest.mark.parametrize(
    'options, sentence',
    [
        (['--reference', '--nbest', '4'], '--reference decodes nothing'),
        (['--shards', '2'], 'say with --shard which part'),
        (['--nbest', '0'], '--nbest must be at least 1, not 0'),
        (['--nbest', '8', '--beam-size', '4'], '--beam-size (4) is below --nbest (8)'),
        (['--min-words', '4', '--max-words', '2'], 'no row would be left'),
        (['--min-log-prob-per-token', '0.5'], '--min-log-prob-per-token must be at most 0'),
        (['--max-wer', '-1'], '--max-wer must be at least 0, not -1'),
        (['--batch-size', '0'], '--batch-size must be at least 1, not 0'),
        (['--rescore'], 'has no `teacher_nbest` to score again'),
    ],
)
def test_requests_that_make_no_sense_are_refused(options, sentence, tone_teacher, tone_corpus, tmp_path, capsys):
    assert _score(tone_teacher, tone_corpus, tmp_path / 'out.jsonl', *options) == 2
    error = capsys.readouterr().err
    assert sentence in error and 'Traceback' not in error


def test_a_limit_of_errors_needs_a_reference(tone_teacher, tone_corpus, tmp_path, capsys):
    manifest = tmp_path / 'in.jsonl'
    write_manifest(manifest, [{k: v for k, v in row.items() if k != 'text'} for row in read_manifest(tone_corpus)])
    assert _score(tone_teacher, manifest, tmp_path / 'out.jsonl', '--max-wer', '0.5') == 2
    assert 'have no reference' in capsys.readouterr().err


def test_an_empty_reference_is_none_and_a_filter_has_to_be_a_number(tone_teacher, tone_corpus, tmp_path, capsys):
    manifest, output = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
    rows = [{**row, 'reference_text': None} for row in read_manifest(tone_corpus)[:2]]
    write_manifest(manifest, rows)
    assert _score(tone_teacher, manifest, output, '--max-wer', '5') == 0
    assert [row['reference_text'] for row in read_manifest(output)] == [row['text'] for row in rows]
    assert _score(tone_teacher, manifest, tmp_path / 'nan.jsonl', '--min-log-prob-per-token', 'nan') == 2
    assert '--min-log-prob-per-token must be a finite number, not nan' in capsys.readouterr().err


@pytest.mark.parametrize('entries', [[{'txt': 'a'}], ['a b'], [{'text': None}]])
def test_lists_that_are_none_are_refused_in_a_sentence(entries, tone_teacher, tone_corpus, tmp_path, capsys):
    manifest = tmp_path / 'in.jsonl'
    write_manifest(manifest, [{**read_manifest(tone_corpus)[0], 'teacher_nbest': entries}])
    assert _score(tone_teacher, manifest, tmp_path / 'out.jsonl', '--rescore') == 2
    assert 'score the manifest without --rescore' in capsys.readouterr().err


def test_a_run_that_drops_nothing_leaves_no_dropped_rows_of_an_earlier_one(
    tone_teacher, tone_corpus, tmp_path, capsys, monkeypatch
):
    forks.fork_workers(monkeypatch)
    output = tmp_path / 'out.jsonl'
    assert _score(tone_teacher, tone_corpus, output, '--reference', '--max-words', '0') == 0
    assert dropped_path(output).is_file()
    capsys.readouterr()
    assert _score(tone_teacher, tone_corpus, output, '--reference', '--workers', '2', '--overwrite') == 0
    printed = capsys.readouterr().out
    assert '2 processes' in printed and 'nothing left' not in printed
    assert len(read_manifest(output)) == 16 and not dropped_path(output).exists()


def test_filters_know_words_errors_and_empty_texts():
    row = {'text': 'a b', 'teacher_log_prob': -2.0, 'teacher_tokens': 3, 'reference_text': 'a c'}
    assert RowFilter(min_words=3).after_scoring(row) == 'too few words'
    assert RowFilter(max_words=1).after_scoring(row) == 'too many words'
    assert RowFilter(max_wer=0.4).after_scoring(row) == 'too many errors'
    assert RowFilter(max_wer=0.5, min_log_prob_per_token=-0.7).after_scoring(row) is None
    assert RowFilter(min_duration=1.0).before_scoring(0.5) == 'too short'
    assert RowFilter(max_duration=1.0).before_scoring(1.5) == 'too long'
    empty = {'text': '', 'teacher_log_prob': -1.0, 'teacher_tokens': 0}
    assert RowFilter(min_log_prob_per_token=-1.5).after_scoring(empty) is None
    assert word_error_rate('', '') == 0 and word_error_rate('', 'a') == float('inf')


def test_a_fingerprint_depends_on_weights_and_labels_but_not_on_the_file(tone_teacher, tmp_path):
    moved = tmp_path / 'renamed.nemo'
    shutil.copy(tone_teacher, moved)
    model = restore_frozen(str(tone_teacher))
    fingerprint = model_fingerprint(model)
    assert fingerprint == model_fingerprint(restore_frozen(str(moved)))
    with torch.no_grad():
        next(model.encoder.parameters()).view(-1)[0] += 1e-3
    changed = model_fingerprint(model)
    assert not changed.same_scores(fingerprint) and changed.vocabulary == fingerprint.vocabulary
    assert Fingerprint.parse(str(fingerprint)) == fingerprint
    with pytest.raises(ConfigError, match='is not a teacher fingerprint'):
        Fingerprint.parse('abc')
