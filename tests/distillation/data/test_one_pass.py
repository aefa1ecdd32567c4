# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Set-up reads a manifest once, besides NeMo, as NeMo reads it, whatever the objectives; and keeps a few bytes of each row."""

import builtins
import json

import pytest
import tiny
from omegaconf import OmegaConf, open_dict
from tiny_scores import distillation, read_rows, transducer_config, write_rows

from nemo_oracle_kd.bridge.rows.batch import UtteranceRows
from nemo_oracle_kd.bridge.rows.lines import ManifestReader
from nemo_oracle_kd.bridge.rows.manifests import training_manifests
from nemo_oracle_kd.errors import ConfigError


@pytest.mark.parametrize('objectives', [{'full_sum': {}}, {'full_sum_norm': {}, 'full_sum': {}}, {'hard': {}}])
def test_set_up_reads_a_manifest_once(scored_tones, tmp_path, monkeypatch, objectives):
    manifest = write_rows(read_rows(scored_tones / 'decode.jsonl'), tmp_path / 'scored.jsonl')
    student = tiny.rnnt_model(transducer_config(manifest), tiny.trainer(1))
    opened, original = [], builtins.open

    def counted(file, *arguments, **options):
        opened.append(str(file))
        return original(file, *arguments, **options)

    monkeypatch.setattr(builtins, 'open', counted)
    distiller = distillation(objectives).distiller
    distiller.attach(student)
    assert opened.count(str(manifest)) == 1
    next(iter(student._train_dl))
    assert opened.count(str(manifest)) == 1
    distiller.detach(student)


def test_a_teacher_beside_the_student_does_not_make_it_two(tone_corpus, tone_teacher, monkeypatch):
    student = tiny.rnnt_model(transducer_config(tone_corpus), tiny.trainer(1))
    passes, original = [], ManifestReader.__iter__
    monkeypatch.setattr(ManifestReader, '__iter__', lambda reader: passes.append(1) or original(reader))
    distiller = distillation({'full_sum': {}}, {'restore_from': str(tone_teacher)}).distiller
    distiller.attach(student)
    assert len(passes) == 1 and distiller._rows is None
    distiller.detach(student)


def test_the_lines_are_those_that_nemo_reads(tmp_path):
    from nemo.collections.common.parts.preprocessing import manifest as nemo

    (tmp_path / 'a.wav').write_bytes(b'')
    (tmp_path / 'a.txt').write_text('one\ntwo')
    rows = [
        {'audio_filepath': 'a.wav', 'duration': 1, 'text': 'x'},
        {'audio_filepath': '~/a.wav', 'duration': 1.5, 'text': '', 'offset': 0.25},
        {'audio_filename': '/abs/b.wav', 'audio_filepath': 'c.wav', 'duration': 2.0, 'normalized_text': 'y'},
        {'audio_filepath': 'missing.wav', 'context_duration': 3.0, 'text_filepath': str(tmp_path / 'a.txt')},
        {'audio_filepath': 'x/../a.wav', 'duration': 1.0},
    ]
    path = tmp_path / 'odd.jsonl'
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes(f'\n  \r\n{lines[0]}\r\n{lines[1]}\r{lines[2]}\n\n {lines[3]} \n{lines[4]}'.encode())
    found = list(ManifestReader(training_manifests({'manifest_filepath': str(path)})))
    theirs = list(nemo.item_iter(str(path)))
    assert len(found) == len(theirs) == 5
    for line, item in zip(found, theirs):
        assert (line.number, line.audio_file, line.duration) == (item['id'], item['audio_file'], item['duration'])
        assert line.row['text'] == item['text'] and line.row.get('offset') == item['offset']
    assert [line.place for line in found] == [3, 4, 5, 7, 8] and found[4].text is None


def test_rows_are_read_from_odd_lines_and_a_manifest_that_changes_during_the_fit_is_told(tone_corpus, tmp_path):
    rows = read_rows(tone_corpus)
    path = tmp_path / 'train.jsonl'
    path.write_text('\n\n' + '\r'.join(json.dumps({**row, 'utt': n}) for n, row in enumerate(rows)) + '\n', newline='')
    student = tiny.ctc_model(tiny.ctc_config(path))
    found = UtteranceRows.attach(student)
    assert [row['utt'] for row in found] == list(range(16)) and found.nbytes == 16 * 13
    found.detach()
    path.write_text(path.read_text()[40:])
    with pytest.raises(RuntimeError, match='was changed during the training: leave manifests as they are'):
        list(found)


def test_several_configs_of_lhotse_are_told_from_their_lists(tone_corpus):
    config = OmegaConf.create(
        {'one': {'manifest_filepath': str(tone_corpus)}, 'multi_config': True, 'use_lhotse': True}
    )
    with open_dict(config):
        config.sampler_weights = {'one': 1.0}
        config.labels = ['a', 'b']
    manifests = training_manifests(config)
    assert manifests.files == [str(tone_corpus)] and manifests.sources[0].lhotse and manifests.complete


def test_options_around_an_input_cfg_hold_for_its_entries(tone_corpus):
    entries = [{'type': 'nemo', 'manifest_filepath': str(tone_corpus), 'text_field': 'words'}]
    entries += [{'type': 'nemo_tarred', 'manifest_filepath': str(tone_corpus), 'tarred_audio_filepaths': 'a.tar'}]
    config = {'use_lhotse': True, 'max_duration': 9.0, 'text_field': 'text', 'input_cfg': entries}
    first, second = training_manifests(config).sources
    assert (first.text_field, first.tarred, first.longest) == ('words', False, 9.0)
    assert (second.text_field, second.tarred, second.lhotse) == ('text', True, True)
    assert not first.loads({}, 10.0) and first.loads({}, 8.0)
    zipped = training_manifests({'use_lhotse': True, 'manifest_filepath': 'rows.jsonl.gz'})
    assert zipped.files == [] and not zipped.complete


def test_nothing_is_attached_when_the_data_are_refused(tone_corpus):
    student = tiny.rnnt_model(transducer_config(tone_corpus), tiny.trainer(1))
    before = student._train_dl.dataset.return_sample_id
    distiller = distillation({'full_sum': {}}).distiller
    with pytest.raises(ConfigError, match='have no `teacher_log_prob`'):
        distiller.attach(student)
    assert student._train_dl.dataset.return_sample_id == before and 'on_before_batch_transfer' not in vars(student)
