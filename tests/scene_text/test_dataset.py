# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Manifests of pictures become the batches that NeMo's CTC models train on."""

import json

import pytest
import tiny_pictures
import torch
from PIL import Image

from nemo_oracle_kd.corpus.manifest import ManifestError
from nemo_oracle_kd.scene_text.dataset import WidthBuckets, WordPictures, make_loader
from nemo_oracle_kd.scene_text.pictures import PictureInputs, PictureSize

INPUTS = PictureInputs(PictureSize(16, 16, 96), tiny_pictures.LABELS)


def _loader(manifest, **options):
    config = {'manifest_filepath': str(manifest), 'batch_size': 4, 'shuffle': True, **options}
    return make_loader(config, INPUTS, tiny_pictures.LABELS)


@pytest.mark.parametrize('key', ['image', 'image_filepath', 'audio_filepath'])
def test_every_row_is_in_one_batch_with_its_word_in_labels(key, tmp_path):
    manifest = tiny_pictures.write_words(tmp_path, count=10, key=key)
    words = []
    for signal, lengths, labels, counts in _loader(manifest):
        assert signal.dtype == torch.float32 and 0 <= signal.min() and signal.max() <= 1
        assert int(lengths.max()) == signal.shape[1] and bool((lengths % 16 == 0).all())
        words += [''.join(tiny_pictures.LABELS[i] for i in row[:count]) for row, count in zip(labels, counts)]
    texts = [json.loads(line)['text'].lower().strip('!') for line in manifest.read_text().splitlines()]
    assert sorted(words) == sorted(texts)


def test_batches_hold_pictures_of_about_the_same_width_in_a_new_order_each_time():
    torch.manual_seed(0)
    columns = torch.randint(20, 200, (403,)).tolist()
    order = WidthBuckets(columns, 10)
    first, second = list(order), list(order)
    assert sorted(first) == sorted(second) == list(range(403)) and first != second
    spans = [max(part) - min(part) for part in ([columns[i] for i in first[s : s + 10]] for s in range(0, 400, 10))]
    assert sum(spans) / len(spans) < 30
    assert {len(WidthBuckets([7], 10)), *WidthBuckets([7], 10)} == {1, 0}


def test_a_picture_is_decoded_once_while_there_is_room(tmp_path, monkeypatch):
    manifest = tiny_pictures.write_words(tmp_path, count=6)
    opened = []
    monkeypatch.setattr(Image, 'open', lambda path, open=Image.open: opened.append(path) or open(path))
    for room, expected in ((1.0, 6 + 6), (0.0, 6 + 12)):  # a header of each, then the decoded ones
        opened.clear()
        pictures = WordPictures([manifest], INPUTS, tiny_pictures.LABELS, cache_mb=room)
        for _ in range(2):
            for index in range(len(pictures)):
                pictures[index]
        assert len(opened) == expected


def test_rows_of_whose_text_nothing_is_left_train_nothing_and_are_still_evaluated(tmp_path):
    manifest = tiny_pictures.write_words(tmp_path, count=3)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[1]['text'] = '?'
    manifest.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    assert sum(len(batch[1]) for batch in _loader(manifest)) == 2
    assert [batch[3].tolist()[1] for batch in _loader(manifest, shuffle=False)] == [0]
    manifest.write_text(json.dumps(rows[1]) + '\n')
    with pytest.raises(ValueError, match='no row of .* has a text that the model can write'):
        _loader(manifest)


def test_what_is_wrong_with_a_manifest_is_said_with_its_line(tmp_path):
    manifest = tiny_pictures.write_words(tmp_path, count=2)
    manifest.write_text(manifest.read_text() + '{"text": "tea"}\n')
    with pytest.raises(
        ManifestError, match='line 3: `image` is missing or not a string; add the path of the image file'
    ):
        _loader(manifest)
    manifest.write_text('{"image": "none.png", "text": "tea"}\n')
    with pytest.raises(ValueError, match='none.png cannot be read as a picture'):
        _loader(manifest)
