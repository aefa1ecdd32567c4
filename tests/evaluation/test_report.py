# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the report: complete, self-contained, and honest about the numbers it was given."""

import re
from html.parser import HTMLParser

import matplotlib
import matplotlib.colors
import numpy as np
import pytest

from nemo_oracle_kd.evaluation import plots
from nemo_oracle_kd.evaluation.figure_style import FOREGROUND, styles_of
from nemo_oracle_kd.evaluation.headline import p_text
from nemo_oracle_kd.evaluation.report import Panel, Report, Section, Table, build_report, result_table, write_report


def make_results():
    curve = [{'update': 10, 'seconds': 1.0, 'val_wer': 90.0}, {'update': 20, 'seconds': 2.0, 'val_wer': 60.0}]

    def pair(baseline, system, difference, relative, p):
        return {
            'baseline': baseline,
            'system': system,
            'difference': difference,
            'low': difference - 3,
            'high': difference + 3,
            'relative': relative,
            'p_bootstrap': p,
            'p_permutation': p,
            'wins': 7,
            'losses': 2,
            'ties': 5,
        }

    names = ('student_alone', 'student_from_conventional_teacher', 'student_from_oracle_teacher', 'oracle_teacher')
    wers = ([60.0, 58.0], [46.0, 44.0], [42.0, 40.0], [6.0, 4.0])
    return {
        'systems': {
            name: {'wer': wer, 'cer': [w / 2 for w in wer], 'parameters': 59123, 'train_seconds': [100.0, 102.0]}
            for name, wer in zip(names, wers)
        },
        'seeds': [0, 1],
        'intervals': {name: {'wer': [np.mean(wer) - 4, np.mean(wer) + 5]} for name, wer in zip(names, wers)},
        'paired': [
            pair('student_alone', 'student_from_oracle_teacher', -18.0, -30.5, 0.0002),
            pair('student_from_conventional_teacher', 'student_from_oracle_teacher', -4.0, -8.9, 0.031),
        ],
        'curves': {name: {'0': curve, '1': curve} for name in names},
    }


def make_report(**changes):
    attention = np.eye(3)
    content = {
        'title': 'Distillation <on> a corpus',
        'results': make_results(),
        'lead': 'A lead.',
        'story': ['One paragraph.', 'Another & more.'],
        'settings': {'updates': 20},
        'alignments': [Panel(plots.copying_bars({'a': {'x': 1.0}}), 'An alignment.', 'alignment')],
        'attention': [Panel(plots.attention_map(attention, list('abc'), 0.04), 'An attention.', 'attention')],
        'diagnosis': [
            Table(['condition', 'WER'], [['silence', '95.1']]),
            Panel(plots.wer_bars({'a': [1.0]}), 'Bars.'),
        ],
        'verdict': 'The teacher listens.',
        'commands': ["run.py --data 'x' && echo <done>"],
        'environment': {'torch': '2.13'},
    }
    return Report(**{**content, **changes})


class Reader(HTMLParser):
    """Checks nesting and collects ids and text."""

    VOID = {'meta', 'link', 'br', 'img'}

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.words = [], [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes['id']] if 'id' in attributes else []
        self.links += [attributes[key] for key in ('src', 'href', 'xlink:href') if key in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope='module')
def page():
    return build_report(make_report())


@pytest.mark.unit
def test_page_is_well_formed_with_unique_ids_and_links_that_lead_somewhere(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    for link in reader.links:
        assert link.startswith('data:') or link[1:] in reader.ids, link[:80]
    for reference in re.findall(r'url\(#([^)]*)\)', page):
        assert reference in reader.ids


@pytest.mark.unit
def test_page_needs_nothing_from_outside_and_no_script(page):
    assert '<script' not in page and '@import' not in page
    assert not re.search(r'(src|href)="(https?:)?//', page) and not re.search(r'url\((?!#)', page)
    assert 'prefers-color-scheme: dark' in page and 'width=device-width' in page


@pytest.mark.unit
def test_figures_take_the_colour_of_the_page(page):
    assert 'currentColor' in page
    assert FOREGROUND not in page.split('</style>')[1]


@pytest.mark.unit
def test_every_part_is_there_and_text_is_escaped(page):
    for text in (
        'A lead.',
        'Another &amp; more.',
        'An alignment.',
        'An attention.',
        'The teacher listens.',
        '95.1',
        '2.13',
    ):
        assert text in page
    assert '<h1>Distillation &lt;on&gt; a corpus</h1>' in page
    assert 'echo &lt;done&gt;' in page
    for section in ('done', 'results', 'curves', 'alignments', 'attention', 'diagnosis', 'again', 'environment'):
        assert f'<section id="{section}">' in page
    assert page.count('<svg') == 5


@pytest.mark.unit
def test_table_shows_means_intervals_change_and_p():
    table = result_table(make_report())
    row = next(row for row in table.rows if row[0] == 'student from oracle teacher')
    assert row == [
        'student from oracle teacher',
        '59\u202f123',
        '41.0',
        '37.0 – 46.0',
        '20.5',
        '−30.5 %',
        '< 0.001',
        '101',
    ]
    assert 'mean of 2 seeds' in table.note and '“student alone”' in table.note
    assert '“oracle teacher” is given the transcript' in table.note


@pytest.mark.unit
def test_other_pairs_have_a_table_of_their_own(page):
    assert 'student from oracle teacher – student from conventional teacher' in page
    assert '−4.0' in page and '0.031' in page and '7 / 2 / 5' in page


@pytest.mark.unit
def test_results_alone_make_a_page_and_no_results_are_refused(tmp_path):
    systems = {'a': {'wer': [50.0], 'cer': [20.0], 'parameters': 10, 'train_seconds': [1.0]}}
    path = write_report(Report('Small', {'systems': systems}), tmp_path / 'sub' / 'report.html')
    page = path.read_text()
    assert 'Small' in page and '50.0' in page and '<section id="curves">' not in page and 'torch' in page
    with pytest.raises(ValueError, match='hold no system'):
        build_report(Report('Empty', {'systems': {}}))


@pytest.mark.unit
def test_small_p_values_are_not_shown_as_zero():
    assert (p_text(0.0001), p_text(0.0312)) == ('< 0.001', '0.031')


@pytest.mark.unit
def test_the_headline_names_the_strongest_control_and_is_no_more_certain_than_the_interval(page):
    assert 'is better than its strongest control, “student from conventional teacher”: −4.0 points of WER' in page
    assert '<p class="headline better">' in page
    noisy = make_results()
    noisy['paired'][1].update(low=-9.0, high=0.4)
    page = build_report(make_report(results=noisy))
    assert '<p class="headline level">' in page and 'level within the noise' in page and 'better than' not in page


@pytest.mark.unit
def test_a_system_has_one_colour_in_bars_and_curves_and_its_line_and_marker_are_its_own():
    report = make_report()
    results, styles = report.results, report.styles
    names = list(results['systems'])
    bars = plots.wer_bars({name: results['systems'][name]['wer'] for name in names}, styles=styles)
    # the curves hold fewer systems, in another order
    shown = names[:0:-1]
    curves = plots.learning_curves({name: list(results['curves'][name].values()) for name in shown}, styles=styles)
    colours = [matplotlib.colors.to_hex(bar.get_facecolor()) for bar in bars.axes[0].patches]
    assert colours == [styles[name].colour for name in names]
    lines = [line for line in curves.axes[0].lines if not line.get_label().startswith('_')]
    assert [line.get_color() for line in lines] == [styles[name].colour for name in shown]
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == len(shown)


@pytest.mark.unit
def test_forty_systems_can_be_told_apart_without_colour():
    styles = styles_of([str(k) for k in range(40)])
    assert len({(style.line, style.marker) for style in styles.values()}) == 40


@pytest.mark.unit
def test_further_sections_stand_between_results_and_curves_with_texts_tables_and_figures():
    figure = plots.wer_bars({'a': [1.0]})
    section = Section('Over <time>', ['One & two.'], [Panel(figure, 'a caption'), Table(['k', 'v'], [['x', '1']])])
    page = build_report(make_report(sections=[section]))
    assert '<h2>Over &lt;time&gt;</h2><p>One &amp; two.</p><figure>' in page
    assert page.index('id="results"') < page.index('id="section0"') < page.index('id="curves"')
    assert '<a href="#section0">Over &lt;time&gt;</a>' in page and '<figcaption>a caption</figcaption>' in page
    assert '<th scope="row">x</th><td>1</td>' in page
