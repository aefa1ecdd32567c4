# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Training from a cache: no teacher in memory, every kind of loader, what is refused before the first step, and `check`."""

import json
import tarfile
from pathlib import Path

import pytest
import tiny
import tiny_cache
import tiny_oracle
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf, open_dict

from nemo_oracle_kd.bridge.audio import audio_batch
from nemo_oracle_kd.bridge.encode import encode_audio
from nemo_oracle_kd.callbacks import KnowledgeDistillation
from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.cli.presets import preset_text
from nemo_oracle_kd.distillation import teachers
from nemo_oracle_kd.distillation.compatibility import report
from nemo_oracle_kd.distillation.data.rows import training_problems
from nemo_oracle_kd.distillation.settings import DistillationConfig
from nemo_oracle_kd.distillation.teacher_kinds import make_teacher
from nemo_oracle_kd.errors import ConfigError

ALL = {'frame_kl': None, 'softmax_l2': None, 'guided_ctc': None}


@pytest.fixture(scope='module')
def teacher():
    """A CTC teacher whose random weights say something."""
    model = tiny.ctc_model(tiny.ctc_config(hidden=48), seed=4).eval()
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight.mul_(3.0)
    return model


@pytest.fixture(scope='module')
def cache(teacher, tone_corpus, tmp_path_factory):
    """A cache of it."""
    folder = tmp_path_factory.mktemp('cache')
    tiny_cache.write(teacher, tone_corpus, folder, 'ctc_topk', top_k=6)
    return folder


def fit(config, section, objectives=ALL, steps=3, callbacks=(), **options):
    """Trains a student; returns what was logged, and the student."""
    distillation = KnowledgeDistillation(section, objectives)
    trainer = tiny.trainer(steps, callbacks=[distillation, *callbacks], log_every_n_steps=1, **options)
    student = tiny.ctc_model(config, trainer)
    trainer.fit(student)
    return {name.split('/')[-1]: float(value) for name, value in trainer.callback_metrics.items()}, student


def test_the_student_is_that_of_the_teacher_in_memory_and_no_model_is_restored(
    teacher, cache, tone_corpus, tmp_path, monkeypatch
):
    teacher.save_to(str(tmp_path / 'teacher.nemo'))
    config = tiny.ctc_config(tone_corpus, hidden=16)
    config.optim = {'name': 'sgd', 'lr': 1e-3}  # Adam's first steps have the same size however small a gradient is
    online, one = fit(config, {'restore_from': str(tmp_path / 'teacher.nemo')})
    monkeypatch.setattr(teachers, 'restore_frozen', None)
    cached, other = fit(config, {'cache': str(cache)})
    assert set(cached) == set(online) and cached['frame_kl'] > 0
    for name in online:
        assert cached[name] == pytest.approx(online[name], rel=2e-2, abs=2e-3), name
    for (name, left), right in zip(one.state_dict().items(), other.state_dict().values()):
        torch.testing.assert_close(left, right, rtol=2e-2, atol=2e-3, msg=name)
    other.save_to(str(tmp_path / 'student.nemo'))
    assert b'cache' not in (tmp_path / 'student.nemo').read_bytes()


class Compared(Callback):
    """Compares what the cache says of every batch with what the teacher says of its audio."""

    def __init__(self, model):
        self.model, self.seen = model, 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        distiller = trainer.callbacks[0].distiller
        context = distiller._context
        said = distiller.teacher.hear(context.batch)
        with torch.no_grad():
            for row, length in enumerate(batch[1].tolist()):
                heard = encode_audio(self.model, audio_batch([batch[0][row, :length]]))
                mine = said.posteriors[row, : int(said.lengths[row])]
                assert len(mine) == int(heard.lengths[0])
                theirs = heard.log_probs[0, : len(mine)]
                torch.testing.assert_close(mine.exp(), theirs.exp(), atol=0.1, rtol=0.1)
                self.seen += 1


def _tarred(manifest, folder):
    """The corpus in two archives as NeMo's converter makes them, with the names it gives."""
    manifests, tars = [], []
    rows = tiny_cache.rows(manifest)
    for number, part in enumerate((rows[:8], rows[8:])):
        with tarfile.open(folder / f'audio_{number}.tar', 'w') as tar:
            for row in part:
                path = Path(row['audio_filepath'])
                row['audio_filepath'] = str(path.with_suffix('')).replace('/', '_').replace('.', '_') + path.suffix
                row['shard_id'] = number
                tar.add(path, arcname=row['audio_filepath'])
        (folder / f'manifest_{number}.json').write_text(''.join(json.dumps(row) + '\n' for row in part))
        manifests.append([str(folder / f'manifest_{number}.json')])
        tars.append([str(folder / f'audio_{number}.tar')])
    return manifests, tars


@pytest.mark.parametrize('loader', ['native', 'tarred buckets', 'lhotse', 'tarred lhotse'])
def test_every_loader_finds_its_utterances(teacher, cache, tone_corpus, tmp_path, loader):
    config = tiny.ctc_config(tone_corpus, hidden=16)
    # a small buffer: tarred data are repeated without end, and Lhotse fills it before it gives the first batch
    lhotse = {'use_lhotse': True, 'shuffle': True, 'shuffle_buffer_size': 32, 'seed': 1}
    options = {'use_distributed_sampler': False} if 'lhotse' in loader else {}
    with open_dict(config):
        if loader == 'tarred buckets':
            manifests, tars = _tarred(tone_corpus, tmp_path)
            config.train_ds.update(manifest_filepath=manifests, is_tarred=True, tarred_audio_filepaths=tars)
        elif loader == 'lhotse':
            config.train_ds.update(lhotse)
        elif loader == 'tarred lhotse':
            _tarred(tone_corpus, tmp_path)
            names = {
                'manifest_filepath': 'manifest__OP_0..1_CL_.json',
                'tarred_audio_filepaths': 'audio__OP_0..1_CL_.tar',
            }
            config.train_ds.update({**lhotse, **{key: f'{tmp_path}/{name}' for key, name in names.items()}})
            options['limit_train_batches'] = 2
        else:
            config.train_ds.augmentor = {'white_noise': {'prob': 1.0, 'min_level': -90, 'max_level': -80}}
    witness = Compared(teacher)
    fit(config, {'cache': str(cache)}, {'frame_kl': {}}, 2, [witness], **options)
    assert witness.seen == 8


def test_an_oracle_teacher_is_found_by_text_too_and_labels_must_be_those_that_it_read(tone_corpus, tmp_path):
    from nemo_oracle_kd.models import EncDecOracleCTCModel

    torch.manual_seed(0)
    oracle = EncDecOracleCTCModel(cfg=tiny_oracle.oracle_config()).eval()
    tiny_cache.write(oracle, tone_corpus, tmp_path / 'cache', 'ctc_topk', top_k=6)
    given = tiny_cache.batch(tone_corpus)
    teacher = make_teacher(
        DistillationConfig.from_mapping({'teacher': {'cache': str(tmp_path / 'cache')}, 'objectives': ALL}).teacher
    )
    assert teacher.description.reads_transcript
    with torch.no_grad():
        online = encode_audio(oracle, given)
    cached = teacher.hear(given)
    length = int(online.lengths.min())
    torch.testing.assert_close(
        cached.posteriors[:, :length].exp(), online.log_probs[:, :length].exp(), atol=0.05, rtol=0.05
    )
    labels = given.transcripts.labels.clone()
    labels[0, 0] = (labels[0, 0] + 1) % 5
    changed = type(given)(
        given.signal, given.lengths, type(given.transcripts)(labels, given.transcripts.lengths), given.rows
    )
    with pytest.raises(ConfigError, match='labels of .* differ from those that the teacher was cached with'):
        teacher.hear(changed)
    renamed = type(given)(given.signal, given.lengths, given.transcripts, [{**row, 'text': 'a'} for row in given.rows])
    with pytest.raises(ConfigError, match='has no answer to'):
        teacher.hear(renamed)


def problems(cache, objectives, student, train_ds=None, **section):
    """Everything that a training would refuse, in one text."""
    values = {'teacher': {'cache': str(cache), **section}, 'objectives': objectives}
    try:
        config = DistillationConfig.from_mapping(values)
        teacher = make_teacher(config.teacher)
        found = report(student, teacher, config).problems
        found += training_problems(student, config, teacher, train_ds) if train_ds is not None else []
        return ' | '.join(found)
    except ConfigError as error:
        return str(error)


@pytest.fixture(scope='module')
def student():
    return tiny.ctc_model(tiny.ctc_config(hidden=16))


@pytest.mark.parametrize(
    'objectives, section, sentence',
    [
        (
            {'occupancy': None},
            {},
            'occupancy cannot learn from the signal ctc_topk .* cache the teacher with --signal occupancy',
        ),
        (
            {'frame_kl': {'temperature': 3.0}},
            {},
            r'holds the remaining classes at temperature 1 and 2: .* --temperature 3',
        ),
        ({'full_sum': None}, {}, 'a cache does not hold: label the training manifest'),
        ({'frame_kl': None}, {'time_resampling': 'linear'}, 'can be picked and not mixed'),
        ({'frame_kl': None}, {'head': 'ctc'}, 'a cache holds one head'),
        ({'frame_kl': None}, {'restore_from': 'x.nemo'}, 'restore_from'),
        (
            {'frame_kl': None},
            {'scores': 'manifest'},
            'is read by objectives over texts, such as full_sum, and there is none',
        ),
        ({'full_sum': None}, {'scores': 'manifest'}, 'nothing reads the cache'),
    ],
)
def test_what_a_cache_cannot_serve_is_refused_with_the_fix(cache, student, objectives, section, sentence):
    import re

    assert re.search(sentence, problems(cache, objectives, student, **section))


def test_a_cached_occupancy_has_no_prior_left_to_divide_by(teacher, student, tone_corpus, tmp_path):
    tiny_cache.write(teacher, tone_corpus, tmp_path / 'occupancy', 'occupancy')
    assert problems(tmp_path / 'occupancy', {'occupancy': None}, student) == ''
    found = problems(tmp_path / 'occupancy', {'occupancy': {'prior_scale': 0.3}}, student)
    assert "occupancy.prior_scale needs the teacher's posteriors" in found


def test_rows_that_are_not_cached_and_whatever_moves_time_are_refused_before_the_first_step(
    cache, student, tone_corpus, tmp_path
):
    rows = tiny_cache.rows(tone_corpus)
    rows[3]['duration'] -= 0.1
    changed = tmp_path / 'changed.jsonl'
    changed.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    found = problems(cache, {'frame_kl': None}, student, {'manifest_filepath': str(changed)})
    assert '1 of 16 rows of model.train_ds' in found and 'are not in the cache' in found
    for option in (
        {'augmentor': {'speed': {'prob': 0.5}}},
        {'trim_silence': True},
        {'use_lhotse': True, 'perturb_speed': True},
    ):
        train_ds = OmegaConf.create({'manifest_filepath': str(tone_corpus), **option})
        found = problems(cache, {'frame_kl': None}, student, train_ds)
        assert 'which moves the audio in time' in found and 'not in the cache' not in found
    train_ds = {'manifest_filepath': str(tone_corpus), 'augmentor': {'gain': {'prob': 0.5}}}
    assert problems(cache, {'frame_kl': None}, student, train_ds) == ''


def test_a_preset_takes_a_cache_and_check_describes_it(cache, student, tone_corpus, tmp_path, capsys):
    preset = OmegaConf.to_container(OmegaConf.create(preset_text('frame_kl')))
    preset['teacher']['cache'] = str(cache)
    assert DistillationConfig.from_mapping(preset).teacher.cache == str(cache)
    student.save_to(str(tmp_path / 'student.nemo'))
    words = ['check', str(tmp_path / 'student.nemo'), str(cache), '--manifest', str(tone_corpus)]
    assert main([*words, '--objectives', 'frame_kl', 'guided_ctc']) == 0
    said = capsys.readouterr().out
    assert 'ready to distil frame_kl, guided_ctc' in said
    assert 'cache: ctc_topk (ctc, 6 classes, temperature 1 and 2, float16) of 16 utterances' in said
    assert main([*words, '--objectives', 'occupancy']) == 1
    assert '--signal occupancy' in capsys.readouterr().out
    with pytest.raises(ConfigError, match='is no cache of a teacher'):
        KnowledgeDistillation({'cache': str(tmp_path)}, {'frame_kl': None})


def test_lattice_objectives_find_their_refusals_without_a_model(tone_corpus, tmp_path):
    model = tiny_cache.hybrid()
    tiny_cache.write(model, tone_corpus, tmp_path / 'paths', 'best_path')
    tiny_cache.write(model, tone_corpus, tmp_path / 'cells', 'lattice_topk', top_k=3)
    other = tiny.rnnt_model(tiny.rnnt_config(kind='tdt', hidden=16))
    assert 'one_best_path.cells is band' in problems(tmp_path / 'paths', {'one_best_path': {'cells': 'band'}}, model)
    assert 'that of the teacher' in problems(
        tmp_path / 'paths', {'one_best_path': {}}, model, time_resampling='nearest'
    )
    assert 'holds 3 classes per cell: lower it' in problems(tmp_path / 'cells', {'lattice_topk': {'top_k': 8}}, model)
    assert 'the student is a TDT and the teacher a RNN-T' in problems(
        tmp_path / 'cells', {'lattice_collapsed': {}}, other
    )
    assert 'set teacher.restore_from to run' in problems(tmp_path / 'cells', {'lattice': {}}, model)
    assert problems(tmp_path / 'cells', {'lattice_topk': {'top_k': 3}, 'lattice_collapsed': {}}, model) == ''
