# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the figures: what is drawn is what was given, and the same data give the same bytes."""

import sys

import numpy as np
import pytest

from nemo_oracle_kd.evaluation import plots
from nemo_oracle_kd.evaluation.figure_style import save_png, to_svg


def curve(points):
    return [{'update': u, 'seconds': s, 'val_wer': w} for u, s, w in points]


def make_track(name='m'):
    posteriors = np.full((6, 3), 0.05)
    for frame, label in enumerate([2, 0, 0, 2, 1, 2]):  # blank a a blank b blank
        posteriors[frame, label] = 0.9
    posteriors[2, 0], posteriors[2, 2] = 0.92, 0.03
    return plots.Track(name, posteriors, ['a', 'b'], blank=2, frame_seconds=0.04)


@pytest.mark.unit
def test_learning_curves_draw_every_seed_over_updates_and_seconds():
    one, two = curve([(10, 1.0, 90.0), (20, 2.0, 50.0)]), curve([(10, 1.5, 80.0), (20, 3.0, 40.0)])
    no_validation = [{'update': 15, 'seconds': 1.2, 'train_loss': 3.0}]
    figure = plots.learning_curves({'a': [one, two + no_validation], 'b': [one]}, {'a': 'first'})
    updates, seconds = figure.axes
    assert len(updates.lines) == len(seconds.lines) == 3
    np.testing.assert_array_equal(updates.lines[1].get_xydata(), [(10, 80), (20, 40)])
    np.testing.assert_array_equal(seconds.lines[1].get_xydata(), [(1.5, 80), (3, 40)])
    assert updates.lines[0].get_color() == updates.lines[1].get_color() != updates.lines[2].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['first', 'b']


@pytest.mark.unit
def test_bars_are_the_means_with_intervals_and_seeds():
    figure = plots.wer_bars({'a': [50.0, 60.0], 'b': [30.0]}, {'a': [48.0, 63.0]})
    axis = figure.axes[0]
    assert [bar.get_width() for bar in axis.patches] == [55.0, 30.0]
    np.testing.assert_array_equal(axis.lines[0].get_xdata(), [48.0, 63.0])
    np.testing.assert_array_equal(axis.lines[1].get_xdata(), [50.0, 60.0])
    assert [text.get_text() for text in axis.texts] == ['55.0', '30.0']
    assert axis.get_xlim()[1] > 63.0


@pytest.mark.unit
def test_spikes_are_the_collapsed_greedy_path_at_its_most_certain_frames():
    assert make_track().spikes() == [(2, 'a'), (4, 'b')]
    blank_first = plots.Track('m', make_track().posteriors[:, [2, 0, 1]], ['a', 'b'], blank=0, frame_seconds=0.04)
    assert blank_first.spikes() == [(2, 'a'), (4, 'b')]


@pytest.mark.unit
def test_alignments_draw_spectrogram_non_blank_posterior_and_labels_at_their_times():
    spectrogram = np.random.default_rng(0).standard_normal((8, 24))
    track = make_track()
    figure = plots.alignments(spectrogram, 0.01, [track, make_track('other')], 'a b')
    top, first, second = figure.axes
    np.testing.assert_array_equal(top.images[0].get_array(), spectrogram)
    np.testing.assert_allclose(first.lines[0].get_ydata(), 1 - track.posteriors[:, 2])
    np.testing.assert_allclose(first.lines[0].get_xdata(), (np.arange(6) + 0.5) * 0.04)
    assert [(text.get_text(), text.get_position()[0]) for text in first.texts] == [('a', 0.1), ('b', 0.18)]
    assert top.get_title(loc='left') == '“a b”' and second.get_title(loc='left') == 'other'
    assert second.get_xlim() == (0, pytest.approx(0.24))


@pytest.mark.unit
def test_attention_is_drawn_with_time_to_the_right_and_labels_upwards():
    attention = np.random.default_rng(0).dirichlet(np.ones(3), size=5)
    figure = plots.attention_map(attention, ['a', ' ', 'b'], 0.04)
    image = figure.axes[0].images[0]
    np.testing.assert_array_equal(image.get_array(), attention.T)
    assert image.origin == 'lower' and image.get_extent()[1] == pytest.approx(0.2)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ['a', '␣', 'b']
    with pytest.raises(ValueError, match='one column per label'):
        plots.attention_map(attention, ['a'], 0.04)


@pytest.mark.unit
def test_copying_bars_show_each_condition_of_each_teacher():
    figure = plots.copying_bars({'good': {'true': 5.0, 'silence': 95.0}, 'copying': {'true': 0.0, 'silence': 1.0}})
    assert [bar.get_width() for bar in figure.axes[0].patches] == [5.0, 95.0, 0.0, 1.0]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ['true', 'silence']
    assert len(figure.legends) == 1


@pytest.mark.unit
def test_the_same_data_give_the_same_bytes_and_files_are_pictures(tmp_path):
    def draw():
        return plots.wer_bars({'a': [50.0]}, {'a': [40.0, 60.0]})

    assert to_svg(draw()) == to_svg(draw())
    save_png(draw(), tmp_path / 'a.png')
    save_png(draw(), tmp_path / 'b.png')
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG') and (tmp_path / 'a.png').stat().st_size > 5000


@pytest.mark.unit
def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    with pytest.raises(ImportError, match='pip install matplotlib'):
        plots.wer_bars({'a': [1.0]})
