# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Cut Conformers compute what their parents compute without the parts that are gone."""

import functools
import re

import pytest
import tiny_cut
import torch
from omegaconf import OmegaConf

from nemo_oracle_kd.bridge.cut.conformer import cut_conformer
from nemo_oracle_kd.bridge.cut.request import CutRequest
from nemo_oracle_kd.bridge.cut.student import layer_left_out
from nemo_oracle_kd.errors import ConfigError

LIMITED = {'att_context_size': [4, 0], 'att_context_style': 'chunked_limited', 'conv_context_size': 'causal'}
CAUSAL = {**LIMITED, 'causal_downsampling': True, 'conv_norm_type': 'layer_norm'}
KINDS = {
    'fastconformer': {},
    'conformer': {'kind': 'conformer', 'xscaling': False, 'use_bias': False},
    'cache-aware': CAUSAL,
    'shared position biases': {'untie_biases': False},
}


@pytest.fixture(scope='module', params=KINDS)
def teacher(request):
    """A model of each kind."""
    return tiny_cut.conformer(**KINDS[request.param])


def test_a_cut_that_keeps_everything_changes_nothing(teacher, tmp_path):
    student = tiny_cut.cut(teacher, tmp_path, keep=3, d_model=32, heads=2, ff=64)
    assert torch.equal(tiny_cut.outputs(student).log_probs, tiny_cut.outputs(teacher).log_probs)
    assert student.cfg.encoder == teacher.cfg.encoder


def test_dropped_layers_are_the_parent_with_these_layers_skipped(teacher, tmp_path):
    student = tiny_cut.cut(teacher, tmp_path, layers=(0, 2))
    with layer_left_out(teacher, 1):
        skipped = tiny_cut.outputs(teacher).log_probs
    assert student.cfg.encoder.n_layers == len(student.encoder.layers) == 2
    assert torch.equal(tiny_cut.outputs(student).log_probs, skipped)
    assert not torch.allclose(tiny_cut.outputs(teacher).log_probs, skipped, atol=1e-3)


def test_units_of_feed_forward_modules_that_are_zero_go_without_any_effect(tmp_path):
    teacher = tiny_cut.conformer()
    for layer in teacher.encoder.layers:
        for module in (layer.feed_forward1, layer.feed_forward2):
            module.linear1.weight.data[torch.randperm(64)[:32]] = 0.0
            module.linear2.weight.data[:, (module.linear1.weight.data == 0).all(1)] = 0.0
    student = tiny_cut.cut(teacher, tmp_path, ff=32)
    assert student.encoder.layers[0].feed_forward2.linear1.out_features == 32
    assert student.cfg.encoder.ff_expansion_factor == 1
    torch.testing.assert_close(
        tiny_cut.outputs(student).log_probs, tiny_cut.outputs(teacher).log_probs, atol=1e-5, rtol=0
    )


#: weights whose axis 0 is the residual stream
_WRITES = (
    r'encoder\.(pre_encode\.out|layers\.\d+\.(norm_\w+|.*linear2|self_attn\.linear_out|conv\.pointwise_conv2))\.\w+'
)


def _widened(small, wide):
    """Fills a model of twice the width so that it computes what the small one does.

    Every channel of the residual stream is there twice, of which one is read, so that the norms see the same mean and
    variance. All other new channels are zero.
    """
    target = wide.state_dict()
    heads, head_width = (getattr(wide.encoder.layers[0].self_attn, name) for name in ('h', 'd_k'))
    old_heads, old_width = (getattr(small.encoder.layers[0].self_attn, name) for name in ('h', 'd_k'))
    for name, weight in small.state_dict().items():
        new = torch.zeros_like(target[name])
        if re.fullmatch(_WRITES, name):
            weight = torch.cat([weight, weight])
        elif re.search(r'self_attn\.(linear_[qkvp]|pos_bias)', name):
            # the old heads, with zeros behind their channels; the first head is a new one if there are more
            by_head = torch.zeros(heads, head_width, *weight.shape[2 if 'pos_bias' in name else 1 :])
            by_head[heads - old_heads :, :old_width] = weight.reshape(old_heads, old_width, *by_head.shape[2:])
            if re.search(r'linear_q|pos_bias', name):
                by_head *= (head_width / old_width) ** 0.5  # scores are divided by the square root of the width
            weight = by_head if 'pos_bias' in name else by_head.flatten(0, 1)
        if 'linear_out.weight' in name:
            by_head = torch.zeros(len(weight), heads, head_width)
            by_head[:, heads - old_heads :, :old_width] = weight.view(len(weight), old_heads, old_width)
            weight = by_head.flatten(1)
        if 'pointwise_conv1' in name:  # both halves of the gate
            for old_half, half in zip(weight.chunk(2), new.chunk(2)):
                half[tuple(slice(size) for size in old_half.shape)] = old_half
        elif 'linear_pos' in name:  # every second frequency is one of the small model
            new[:, 0::4], new[:, 1::4] = weight[:, 0::2], weight[:, 1::2]
        else:
            new[tuple(slice(size) for size in weight.shape)] = weight
        if 'running_var' in name:
            new[len(weight) :] = 1.0
        if 'pre_encode.out' in name and wide.encoder.xscale:
            new /= 2**0.5  # the input is scaled by the square root of d_model
        target[name].copy_(new)
    return wide


@pytest.mark.parametrize('kind, heads', [('fastconformer', 4), ('conformer', 2), ('shared position biases', 4)])
def test_channels_and_heads_that_add_nothing_are_found_and_go_without_any_effect(kind, heads, tmp_path):
    small = tiny_cut.conformer(**{**KINDS[kind], 'd_model': 16, 'n_heads': 2})
    wide = _widened(small, tiny_cut.conformer(**{**KINDS[kind], 'd_model': 32, 'n_heads': heads}))
    expected = tiny_cut.outputs(small).log_probs
    torch.testing.assert_close(tiny_cut.outputs(wide).log_probs, expected, atol=1e-4, rtol=0)
    student = tiny_cut.cut(wide, tmp_path, d_model=16, heads=2)
    torch.testing.assert_close(tiny_cut.outputs(student).log_probs, expected, atol=1e-4, rtol=0)
    assert (student.cfg.encoder.d_model, student.cfg.encoder.n_heads, student.cfg.decoder.feat_in) == (16, 2, 16)


def test_width_and_depth_are_cut_together_and_the_subsampling_keeps_its_channels(tmp_path):
    teacher = tiny_cut.conformer(kind='conformer', subsampling_conv_channels=-1)
    student = tiny_cut.cut(teacher, tmp_path, keep=2, d_model=16, ff=16)
    assert student.encoder.pre_encode.conv[0].out_channels == 32 and student.encoder.layers[1].self_attn.h == 1
    assert student.encoder.layers[1].feed_forward1.linear1.out_features == 16 and len(student.encoder.layers) == 2
    assert tiny_cut.outputs(student).log_probs.isfinite().all()


def test_a_cut_cache_aware_encoder_still_streams(tmp_path):
    student = tiny_cut.cut(tiny_cut.conformer(**CAUSAL), tmp_path, layers=(0, 2), d_model=16)
    channel, time, length = student.encoder.get_initial_cache_state(batch_size=1)
    assert channel.shape[0] == time.shape[0] == 2 and channel.shape[-1] == 16
    config = student.encoder.streaming_cfg
    chunk = torch.randn(1, 16, config.chunk_size[1] + config.pre_encode_cache_size[1])
    found = student.encoder.cache_aware_stream_step(
        processed_signal=chunk,
        processed_signal_length=torch.tensor([chunk.shape[-1]]),
        cache_last_channel=channel,
        cache_last_time=time,
        cache_last_channel_len=length,
    )
    assert found[0].shape[1] == 16 and found[2].shape == channel.shape and int(found[4]) > 0


@pytest.mark.parametrize(
    'request_, options, words',
    [
        ({'layers': (0, 3)}, {}, 'layers 0 to 2'),
        ({'layers': (2, 0)}, {}, 'rising order'),
        ({'keep': 4}, {}, 'from 1 to 3'),
        ({'keep': 0}, {}, 'from 1 to 3'),
        ({'d_model': 64}, {}, '30 or 32'),
        ({'d_model': 20, 'heads': 3}, {}, '--heads 2'),
        ({'heads': 1}, {}, '--heads 2'),
        ({'heads': 4}, {}, '--heads 2'),
        ({'d_model': 22}, {'n_heads': 4}, 'shared out to heads'),
        ({'ff': 48}, {}, 'give 32'),
        ({'ff': 128}, {}, 'up to 64'),
        ({'d_model': 16}, {'self_attention_model': 'abs_pos'}, 'absolute positions'),
        ({'d_model': 16}, {'subsampling': 'striding_conv1d'}, 'ends in a convolution'),
        ({'d_model': 18}, {'conv_norm_type': 'group_norm4'}, 'multiple of 4'),
        ({'filters': 0.5}, {}, 'no meaning for a Conformer'),
        ({'keep': 2}, {'reduction': 'pooling', 'reduction_position': 1, 'reduction_factor': 2}, 'frame rate'),
    ],
)
def test_what_cannot_be_cut_is_refused_in_one_sentence_with_the_fix(request_, options, words):
    model = _cached(**options)
    section = OmegaConf.to_container(model.cfg.encoder)
    with pytest.raises(ConfigError) as error:
        cut_conformer(model.encoder, section, model.state_dict(), [], CutRequest(**request_))
    assert words in str(error.value) and '\n' not in str(error.value)


_cached = functools.lru_cache(tiny_cut.conformer)
