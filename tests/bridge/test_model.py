# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Facts read off real NeMo models."""

import pytest
import tiny
from nemo.collections.asr.models import EncDecCTCModelBPE
from omegaconf import OmegaConf

from nemo_oracle_kd.bridge.model import describe


def test_a_convolutional_ctc_model_is_described_by_its_config():
    facts = describe(tiny.ctc_model(tiny.ctc_config(stride=2)))
    assert facts.vocabulary == tuple(tiny.LABELS) and facts.blanks == {'ctc': len(tiny.LABELS)}
    assert facts.sample_rate == tiny.SAMPLE_RATE and facts.tokenizer is None
    assert facts.frame_seconds == pytest.approx(0.02) and not facts.reads_transcript


def test_strides_multiply_and_repeats_stride_each_unless_told_otherwise():
    config = tiny.ctc_config(stride=2)
    config.encoder.jasper[1].update(stride=[2], repeat=2)
    assert describe(tiny.ctc_model(config)).frame_seconds == pytest.approx(0.08)
    config.encoder.jasper[1].update(stride_last=True)
    assert describe(tiny.ctc_model(config)).frame_seconds == pytest.approx(0.04)


@pytest.mark.parametrize('subsampling, factor', [('striding', 4), ('dw_striding', 8)])
def test_a_conformer_tells_its_subsampling(subsampling, factor):
    config = tiny.ctc_config()
    config.encoder = OmegaConf.create(
        {
            '_target_': 'nemo.collections.asr.modules.ConformerEncoder',
            'feat_in': 16,
            'n_layers': 1,
            'd_model': 16,
            'n_heads': 2,
            'ff_expansion_factor': 2,
            'conv_kernel_size': 5,
            'subsampling': subsampling,
            'subsampling_factor': factor,
            'subsampling_conv_channels': 8,
        }
    )
    config.decoder.feat_in = 16
    assert describe(tiny.ctc_model(config)).frame_seconds == pytest.approx(0.01 * factor)


@pytest.mark.parametrize(
    'kind, hybrid, blanks',
    [
        ('rnnt', False, {'transducer': 0}),
        ('tdt', False, {'transducer': 0}),
        ('multiblank_rnnt', False, {'transducer': 2}),
        ('multiblank_rnnt', True, {'ctc': 0, 'transducer': 2}),
    ],
)
def test_every_head_has_its_own_blank(kind, hybrid, blanks):
    facts = describe(tiny.rnnt_model(tiny.rnnt_config(kind=kind, hybrid=hybrid, stride=2)))
    assert facts.blanks == {head: len(tiny.LABELS) + big_blanks for head, big_blanks in blanks.items()}
    assert facts.vocabulary == tuple(tiny.LABELS) and facts.heads == tuple(blanks)
    assert facts.sample_rate == tiny.SAMPLE_RATE and facts.frame_seconds == pytest.approx(0.02)


def multilingual_model(first, second):
    config = tiny.with_tokenizer(tiny.ctc_config(), first)
    languages = {name: {'dir': str(folder), 'type': 'bpe'} for name, folder in (('en', first), ('de', second))}
    config.tokenizer = {'type': 'agg', 'langs': languages}
    return tiny.ctc_model(config, cls=EncDecCTCModelBPE)


def test_a_multilingual_model_is_known_by_its_tokenizers_in_order(tmp_path):
    one, two = (tiny.train_tokenizer(tmp_path / name, seed=seed) for name, seed in (('one', 0), ('two', 3)))
    models = [multilingual_model(*folders) for folders in ((one, two), (one, two), (two, one))]
    facts = [describe(model) for model in models]
    assert len(facts[0].vocabulary) == facts[0].blanks['ctc'] == 32
    assert facts[0].tokenizer == facts[1].tokenizer != facts[2].tokenizer
    single = tiny.ctc_model(tiny.with_tokenizer(tiny.ctc_config(), one), cls=EncDecCTCModelBPE)
    assert describe(single).tokenizer not in (None, facts[0].tokenizer)
