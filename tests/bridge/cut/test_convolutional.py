# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Cut convolutional encoders compute what their parents compute without the parts that are gone."""

import pytest
import tiny
import tiny_cut
import torch
from omegaconf import OmegaConf

from nemo_oracle_kd.bridge.cut.convolutional import cut_convolutional
from nemo_oracle_kd.bridge.cut.request import CutRequest
from nemo_oracle_kd.bridge.cut.student import layer_left_out
from nemo_oracle_kd.errors import ConfigError

COMMON = {
    'dilation': [1],
    'dropout': 0.0,
    'kernel': [11],
    'stride': [1],
    'repeat': 1,
    'residual': False,
    'separable': True,
}
BLOCK = {**COMMON, 'filters': 32, 'repeat': 3, 'residual': True}
FIRST = {**COMMON, 'filters': 32, 'stride': [2]}
QUARTZNET = [FIRST, BLOCK, BLOCK, {**BLOCK, 'filters': 48}, {**COMMON, 'filters': 40}]
SQUEEZED = {'se': True, 'se_context_size': -1}
CITRINET = [
    FIRST,
    {**BLOCK, **SQUEEZED},
    {**BLOCK, **SQUEEZED, 'stride': [2], 'stride_last': True, 'residual_mode': 'stride_add'},
]
DENSE = {**BLOCK, 'separable': False, 'residual_dense': True}
JASPER = [{**FIRST, 'separable': False}, DENSE, {**DENSE, 'filters': 48}]
ENCODERS = {'quartznet': QUARTZNET, 'citrinet': CITRINET, 'jasper': JASPER}


def _teacher(jasper, **options):
    config = tiny.ctc_config()
    config.encoder.update(jasper=jasper, **options)
    config.decoder.feat_in = jasper[-1]['filters']
    return tiny_cut.randomised(tiny.ctc_model(config))


@pytest.fixture(scope='module')
def quartznet():
    return _teacher(QUARTZNET)


def _same(one, other, tolerance=1e-6):
    torch.testing.assert_close(
        tiny_cut.outputs(one).log_probs, tiny_cut.outputs(other).log_probs, atol=tolerance, rtol=0
    )


@pytest.mark.parametrize('name', ['citrinet', 'jasper'])
def test_a_cut_that_keeps_everything_changes_nothing(name, tmp_path):
    teacher = _teacher(ENCODERS[name])
    student = tiny_cut.cut(teacher, tmp_path, keep=len(ENCODERS[name]), repeats=3, filters=1.0)
    _same(student, teacher)
    assert student.cfg.encoder == teacher.cfg.encoder


def test_dropped_blocks_are_the_parent_with_these_blocks_skipped(tmp_path):
    teacher = _teacher(QUARTZNET)
    student = tiny_cut.cut(teacher, tmp_path, layers=(0, 2, 3, 4))
    with layer_left_out(teacher, 1):
        _same(student, teacher)
    assert [block.filters for block in student.cfg.encoder.jasper] == [32, 32, 48, 40]


@pytest.mark.parametrize('name, repeats', [('quartznet', 1), ('citrinet', 2), ('citrinet', 1)])
def test_dropped_repeats_are_the_parent_with_these_repeats_skipped(name, repeats, tmp_path):
    teacher = _teacher(ENCODERS[name])
    student = tiny_cut.cut(teacher, tmp_path, repeats=repeats)
    for old, new in zip(teacher.encoder.encoder, student.encoder.encoder):
        parts = list(old.mconv)
        if len(parts) > 4:
            # a repeat has five modules, but the last one has neither activation nor dropout
            first, last = parts[:5], parts[10:]
            only = first[:3] + parts[13:] if old.inplanes != old.planes else last
            old.mconv = torch.nn.ModuleList(first + last if repeats == 2 else only)
        assert len(old.mconv) == len(new.mconv)
    _same(student, teacher)
    assert [block.repeat for block in student.cfg.encoder.jasper][1] == repeats


@pytest.mark.parametrize('name', ENCODERS)
def test_filters_that_are_zero_go_without_any_effect(name, tmp_path):
    teacher = _teacher(ENCODERS[name])
    for block in teacher.encoder.encoder:
        ends = [index for index, part in enumerate(block.mconv) if isinstance(part, torch.nn.BatchNorm1d)]
        convolutions = {block.mconv[index]: block.mconv[index - 1].conv for index in ends}
        gone = [torch.randperm(block.planes)[: block.planes // 2] for _ in ends]
        residual = {norm: convolution.conv for convolution, norm in block.res or []}
        for norm, convolution, filters in [
            *((norm, convolution, filters) for (norm, convolution), filters in zip(convolutions.items(), gone)),
            *((norm, convolution, gone[-1]) for norm, convolution in residual.items()),
        ]:
            for values in (convolution.weight, norm.weight, norm.bias, norm.running_mean):
                values.data[filters] = 0.0
        for part in block.mconv:
            if hasattr(part, 'fc'):  # half of the hidden units of squeeze and excitation
                part.fc[2].weight.data[:, ::2] = 0.0
    student = tiny_cut.cut(teacher, tmp_path, filters=0.5)
    assert [block.filters for block in student.cfg.encoder.jasper] == [
        block['filters'] // 2 for block in ENCODERS[name]
    ]
    _same(student, teacher, tolerance=1e-5)


@pytest.mark.parametrize(
    'request_, change, options, words',
    [
        ({'layers': (0, 1, 2, 4)}, {}, {}, 'layer 3 changes the number of channels'),
        ({'layers': (1, 2, 3, 4)}, {}, {}, 'layer 0 changes the frame rate'),
        ({'keep': 2}, {}, {}, 'from 3 to 5'),
        ({'d_model': 16}, {}, {}, '--d-model has no meaning'),
        ({'filters': 1.5}, {}, {}, 'not a share'),
        ({'repeats': 0}, {}, {}, '--repeats 0'),
        ({'filters': 0.5}, {'groups': 4}, {}, 'groups or heads'),
        ({'filters': 0.5}, {}, {'normalization_mode': 'layer'}, 'mix the filters'),
        ({'filters': 0.1}, SQUEEZED, {}, 'squeeze and excitation'),
    ],
)
def test_what_cannot_be_cut_is_refused_in_one_sentence_with_the_fix(quartznet, request_, change, options, words):
    teacher = quartznet
    if change or options:
        teacher = _teacher([FIRST, *({**block, **change} for block in QUARTZNET[1:])], **options)
    section = OmegaConf.to_container(teacher.cfg.encoder)
    with pytest.raises(ConfigError) as error:
        cut_convolutional(teacher.encoder, section, teacher.state_dict(), [], CutRequest(**request_))
    assert words in str(error.value) and '\n' not in str(error.value)
