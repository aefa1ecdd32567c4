# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Facts read off real NeMo models."""

import pytest
import tiny
from omegaconf import OmegaConf

from nemo_oracle_kd.bridge.describe import describe


def test_a_convolutional_ctc_model_is_described_by_its_config():
    facts = describe(tiny.ctc_model(tiny.ctc_config(stride=2)))
    assert facts.vocabulary == tuple(tiny.LABELS) and facts.blank == len(tiny.LABELS)
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
    'kind, hybrid, heads',
    [
        ('rnnt', False, ('transducer',)),
        ('tdt', False, ('transducer',)),
        ('multiblank_rnnt', True, ('ctc', 'transducer')),
    ],
)
def test_a_transducer_is_described_by_its_joint_unless_it_has_a_ctc_head(kind, hybrid, heads):
    facts = describe(tiny.rnnt_model(tiny.rnnt_config(kind=kind, hybrid=hybrid, stride=2)))
    assert facts.vocabulary == tuple(tiny.LABELS) and facts.blank == len(tiny.LABELS) and facts.heads == heads
    assert facts.sample_rate == tiny.SAMPLE_RATE and facts.frame_seconds == pytest.approx(0.02)
