# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Pictures become signals, and signals become normalised rows over columns, whatever else is in the batch."""

import numpy as np
import pytest
import tiny_pictures
import torch
from omegaconf import OmegaConf
from PIL import Image

from nemo_oracle_kd.bridge.audio import silence_like
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.scene_text.augmentation import PictureAugmentation
from nemo_oracle_kd.scene_text.encoder import ConvRecurrentEncoder
from nemo_oracle_kd.scene_text.models import EncDecPictureCTCModel
from nemo_oracle_kd.scene_text.pictures import PictureSize, read_picture, recognised_form
from nemo_oracle_kd.scene_text.preprocessor import WordPicturePreprocessor

LABELS = '0123456789abcdefghijklmnopqrstuvwxyz'
SIZE = PictureSize(height=16, min_width=4, max_width=40)


def test_a_signal_holds_the_columns_from_left_to_right_and_each_from_the_bottom_up(tmp_path):
    pixels = np.zeros((16, 8), dtype=np.uint8)
    pixels[0, 0], pixels[15, 7] = 200, 100  # top left, bottom right
    Image.fromarray(pixels).save(tmp_path / 'p.png')
    signal = read_picture(tmp_path / 'p.png', SIZE)
    assert signal.dtype == torch.uint8 and signal.shape == (8 * 16,)
    assert signal.nonzero().flatten().tolist() == [15, 7 * 16] and signal[15] == 200 and signal[7 * 16] == 100
    rows, columns = WordPicturePreprocessor(16, 4, 40, 1600)(
        input_signal=signal[None] / 255.0, length=torch.tensor([128])
    )
    assert rows.shape == (1, 16, 8) and columns.tolist() == [8]
    assert rows[0, 15, 0] == rows.max() and rows[0, 0, 7] > rows[0, 0, 0]


@pytest.mark.parametrize('size, columns', [((32, 32), 16), ((5, 32), 4), ((400, 32), 40), ((8, 16), 8)])
def test_the_ratio_of_the_sides_is_kept_within_the_limits(size, columns, tmp_path):
    Image.new('RGB', size, (10, 200, 30)).save(tmp_path / 'p.jpg')
    assert len(read_picture(tmp_path / 'p.jpg', SIZE)) == columns * 16


def test_a_file_that_is_no_picture_is_one_sentence(tmp_path):
    for content in (b'', b'RIFF....WAVE', Image.new('L', (9, 9)).tobytes()):
        (tmp_path / 'p.jpg').write_bytes(content)
        with pytest.raises(ValueError, match='p.jpg cannot be read as a picture .* repair it, or remove its row'):
            read_picture(tmp_path / 'p.jpg', SIZE)


@pytest.mark.parametrize(
    'text, form', [("McDonald's", 'mcdonalds'), ('CAFÉ', 'cafe'), ('$ 9.99', '999'), ('?!', ''), ('Ünïts-7', 'units7')]
)
def test_texts_are_compared_as_the_field_compares_them(text, form):
    assert recognised_form(text, LABELS) == form
    assert recognised_form('Ab c', 'Abc ') == 'Ab c'  # labels with capitals and a space keep both


def test_blank_pictures_of_any_brightness_and_silence_are_zeros():
    preprocessor = WordPicturePreprocessor()
    lengths = torch.tensor([64 * 32, 40 * 32, 64 * 32])
    grey = torch.tensor([0.0, 0.7, 1.0])[:, None].expand(3, 64 * 32)
    assert bool((preprocessor(input_signal=grey, length=lengths)[0].abs() < 1e-5).all())
    silence, _ = preprocessor(input_signal=silence_like(grey, lengths, [0, 1, 2]), length=lengths)
    assert 0 < silence.abs().max() < 0.05  # its grain is not blown up
    picture, _ = preprocessor(input_signal=torch.rand(1, 2048), length=torch.tensor([2048]))
    assert picture.mean().abs() < 1e-5 and abs(picture.std() - 1.0) < 1e-2


@pytest.mark.parametrize('options, problem', [({'height': 16}, 'gives 32 pixels'), ({'min_width': 300}, 'max_width')])
def test_sizes_that_contradict_each_other_are_refused(options, problem):
    with pytest.raises(ConfigError, match=problem):
        WordPicturePreprocessor(**options)


def test_padding_changes_neither_posteriors_nor_gradients():
    model = EncDecPictureCTCModel(cfg=tiny_pictures.config(residual=True, convolutions=2)).eval()
    torch.manual_seed(1)
    signal, lengths = torch.rand(2, 50 * 16), torch.tensor([33 * 16, 50 * 16])
    alone, frames, _ = model.forward(input_signal=signal[:1, : 33 * 16], input_signal_length=lengths[:1])
    alone.square().sum().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    signal[0, 33 * 16 :] = float('nan')
    both, lengths, _ = model.forward(input_signal=signal, input_signal_length=lengths)
    assert frames.tolist() == lengths[:1].tolist() == [9]  # four columns a frame, the last one begun
    assert torch.allclose(both[0, :9], alone[0], atol=1e-5)
    both[0, :9].square().sum().backward()
    assert all(torch.allclose(p.grad, e, atol=1e-3) for p, e in zip(model.parameters(), expected))


def test_every_stage_of_an_encoder_needs_its_numbers():
    with pytest.raises(ConfigError, match='2 channels, 1 pools and 2 numbers'):
        ConvRecurrentEncoder(channels=(8, 16), pools=((2, 2),))


def test_distortions_differ_between_pictures_move_letters_little_and_leave_the_padding_empty():
    spots = torch.zeros(8, 32, 64)
    spots[:, 14:18, 30:34] = 1.0
    lengths = torch.full((8,), 60)
    spots[:, :, 60:] = 9.0
    distorted = PictureAugmentation(noise=0.0)(input_spec=spots, length=lengths)
    assert bool((distorted[:, :, 60:] == 0).all()) and distorted.max() < 2.0
    assert len({tuple(one.flatten().tolist()) for one in distorted}) == 8
    places = (distorted * torch.arange(64)).sum((1, 2)) / distorted.sum((1, 2))
    assert bool(((places - 31.5).abs() < 3).all())
    nothing = PictureAugmentation(*[0.0] * 8)(input_spec=spots, length=lengths)
    assert torch.allclose(nothing[:, :, :60], spots[:, :, :60], atol=1e-4)


def test_the_installed_configs_are_as_large_as_they_say():
    counts = {}
    for name in ('crnn_ctc', 'residual_crnn_ctc'):
        encoder = dict(OmegaConf.load(tiny_pictures.CONFIGS / f'{name}.yaml').model.encoder)
        encoder.pop('_target_')
        counts[name] = sum(p.numel() for p in ConvRecurrentEncoder(**encoder).parameters())
    assert 0.25e6 < counts['crnn_ctc'] < 0.35e6 and 1.7e6 < counts['residual_crnn_ctc'] < 2.3e6
