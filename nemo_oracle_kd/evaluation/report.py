# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Writes one self-contained ``report.html`` from a ``results.json``, without scripts or external resources.

The page shows the results and the caller's texts about them, on light and dark backgrounds and on small screens. Figures are
inline SVG whose text has the colour of the page's text.
"""

from __future__ import annotations

import html
import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nemo_oracle_kd.corpus.outputs import write_text_atomically
from nemo_oracle_kd.evaluation import plots
from nemo_oracle_kd.evaluation.figure_style import FOREGROUND, SystemStyle, styles_of, to_svg
from nemo_oracle_kd.evaluation.headline import find_headline, p_text, signed
from nemo_oracle_kd.evaluation.report_style import page_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panel:
    """A figure with its caption.

    Attributes:
        figure: a figure of :mod:`nemo_oracle_kd.evaluation.plots`, or any other.
        caption: what to read from the figure; plain text, one or two sentences.
        alternative: what the figure shows, for readers who cannot see it.
    """

    figure: Figure
    caption: str
    alternative: str = 'figure'


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        header: names of the columns; all but the first are aligned as numbers.
        rows: rows of cells, as many as the header has.
        note: a sentence below the table.
        words: the cells hold words, and are aligned as such.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ''
    words: bool = False


@dataclass(frozen=True)
class Section:
    """A section of the page with a title, paragraphs, tables and figures."""

    title: str
    text: Sequence[str] = ()
    parts: Sequence[Panel | Table] = ()


@dataclass
class Report:
    """Content of a report; only ``title`` and ``results`` are required.

    Attributes:
        title: title of the page.
        results: content of ``results.json`` (:mod:`nemo_oracle_kd.experiments.comparison`).
        lead: one or two sentences below the title.
        story: what was done, in plain words, one paragraph each.
        labels: names of the systems on the page; by default their names with spaces for underscores.
        headline: the system whose figures stand at the top, compared with its strongest control; by default
            ``student_from_oracle_teacher`` if there is one.
        told: systems that read the transcript; the table says so, and they are not controls.
        settings: settings of the comparison, as name and value.
        sections: further sections, after the results.
        alignments: figures of the models' emissions over time.
        attention: figures of the cross-attention.
        diagnosis: tables and figures of the copying diagnosis.
        verdict: the sentence above the diagnosis.
        commands: commands that reproduce the results.
        environment: versions and machine; by default those of this process.
    """

    title: str
    results: Mapping[str, Any]
    lead: str = ''
    story: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    headline: str | None = None
    told: Sequence[str] = ('oracle_teacher',)
    settings: Mapping[str, Any] = field(default_factory=dict)
    sections: Sequence[Section] = ()
    alignments: Sequence[Panel] = ()
    attention: Sequence[Panel] = ()
    diagnosis: Sequence[Panel | Table] = ()
    verdict: str = ''
    commands: Sequence[str] = ()
    environment: Mapping[str, str] | None = None

    def label(self, name: str) -> str:
        """The name of a system on the page."""
        return self.labels.get(name, name.replace('_', ' '))

    @property
    def marked(self) -> str:
        """The system that the headline is about."""
        return self.headline or 'student_from_oracle_teacher'

    @property
    def styles(self) -> dict[str, SystemStyle]:
        """The style of each system, the same in every figure of the page."""
        return styles_of(list(self.results['systems']))


def describe_environment() -> dict[str, str]:
    """Returns versions and machine of this process."""
    versions = {}
    for package in ('nemo_oracle_kd', 'nemo_toolkit', 'torch', 'lightning', 'jiwer', 'numpy'):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    machine = f'{platform.system()} {platform.machine()}, {os.cpu_count()} cores'
    return {'Python': platform.python_version(), **versions, 'machine': machine}


def figure_html(panel: Panel, prefix: str) -> str:
    """Renders a figure as inline SVG; ``prefix`` makes its ids unique on the page."""
    svg = to_svg(panel.figure)
    svg = svg[svg.index('<svg') :].replace(FOREGROUND, 'currentColor')
    for before, after in (('id="', f'id="{prefix}-'), ('url(#', f'url(#{prefix}-'), ('href="#', f'href="#{prefix}-')):
        svg = svg.replace(before, after)
    svg = svg.replace('<svg', f'<svg role="img" aria-label="{html.escape(panel.alternative, quote=True)}"', 1)
    return f'<figure><div class="plot">{svg}</div><figcaption>{html.escape(panel.caption)}</figcaption></figure>'


def table_html(table: Table, highlight: int | None = None) -> str:
    """Renders a table that scrolls sideways on a small screen; ``highlight`` is the index of the row to mark."""
    head = ''.join(f'<th scope="col">{html.escape(text)}</th>' for text in table.header)
    rows = []
    for number, cells in enumerate(table.rows):
        first, *rest = (html.escape(str(cell)) for cell in cells)
        body = ''.join(f'<td>{cell}</td>' for cell in rest)
        mark = ' class="marked"' if number == highlight else ''
        rows.append(f'<tr{mark}><th scope="row">{first}</th>{body}</tr>')
    note = f'<p class="note">{html.escape(table.note)}</p>' if table.note else ''
    kind = ' class="words"' if table.words else ''
    return f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{note}'


def _against_baseline(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the first paired comparison of each system, which is the one with the baseline."""
    found: dict[str, Mapping[str, Any]] = {}
    for pair in results.get('paired', ()):
        found.setdefault(pair['system'], pair)
    return found


def result_table(report: Report) -> Table:
    """Makes the table of all systems: size, error rates with intervals, change from the baseline, training time."""
    results, paired = report.results, _against_baseline(report.results)
    seeds = len(next(iter(results['systems'].values()))['wer'])
    rows = []
    for name, system in results['systems'].items():
        interval = results.get('intervals', {}).get(name, {}).get('wer')
        comparison = paired.get(name)
        relative = comparison and comparison['relative']
        rows.append(
            [
                report.label(name),
                f"{system['parameters']:,}".replace(',', '\u202f'),
                f"{np.mean(system['wer']):.1f}",
                f'{interval[0]:.1f} – {interval[1]:.1f}' if interval else '–',
                f"{np.mean(system['cer']):.1f}",
                f'{relative:+.1f} %'.replace('-', '−') if relative is not None else '–',
                p_text(comparison['p_permutation']) if comparison else '–',
                f"{np.mean(system['train_seconds']):.0f}",
            ]
        )
    baseline = next((pair['baseline'] for pair in results.get('paired', ())), None)
    note = f"Error rates in percent, mean of {seeds} seeds." if seeds > 1 else "Error rates in percent."
    note += " Greedy decoding, no language model. The interval is a bootstrap over utterances."
    if baseline:
        note += (
            " Change and p-value (matched-pairs permutation test over utterances) are against "
            f"“{report.label(baseline)}”."
        )
    told = [f'“{report.label(name)}”' for name in report.told if name in results['systems']]
    if told:
        note += f" {', '.join(told)} is given the transcript: its figures are not a recognition result."
    header = ['system', 'parameters', 'WER', '95 % interval', 'CER', 'WER change', 'p', 'training s']
    return Table(header, rows, note)


def pair_table(report: Report) -> Table | None:
    """Makes the table of paired comparisons other than those with the baseline; ``None`` if there are none."""
    first = _against_baseline(report.results)
    rows = [
        [
            f"{report.label(pair['system'])} – {report.label(pair['baseline'])}",
            signed(pair['difference']),
            f"{signed(pair['low'])} to {signed(pair['high'])}",
            p_text(pair['p_permutation']),
            f"{pair['wins']} / {pair['losses']} / {pair['ties']}",
        ]
        for pair in report.results.get('paired', ())
        if pair is not first[pair['system']]
    ]
    if not rows:
        return None
    return Table(['pair', 'WER points', '95 % interval', 'p', 'better / worse / equal'], rows)


def headline_html(report: Report) -> str:
    """Renders the headline: the main figures in large type, and the sentence about them."""
    systems, name = report.results['systems'], report.marked
    if name not in systems:
        return ''
    tiles = [(f"{np.mean(systems[name]['wer']):.1f} %", f'WER of “{report.label(name)}”')]
    found, sentence = find_headline(report.results, name, report.told), ''
    if found is not None:
        control = f"{np.mean(systems[found.control]['wer']):.1f} %"
        low, high = signed(found.pair['low']), signed(found.pair['high'])
        tiles += [
            (control, f'WER of its strongest control, “{report.label(found.control)}”'),
            (signed(found.pair['difference']), f'points of WER, 95 % interval {low} to {high}'),
        ]
        labels = {other: report.label(other) for other in systems}
        sentence = f'<p class="headline {found.outcome}">{html.escape(found.sentence(labels))}</p>'
    tiles.append((f"{systems[name]['parameters'] / 1000:.0f} k", 'parameters'))
    items = ''.join(f'<li><b>{html.escape(big)}</b><span>{html.escape(small)}</span></li>' for big, small in tiles)
    return f'{sentence}<ul class="tiles">{items}</ul>'


def _definition_list(values: Mapping[str, Any]) -> str:
    return (
        '<dl>'
        + ''.join(
            f'<div><dt>{html.escape(str(key))}</dt><dd>{html.escape(str(value))}</dd></div>'
            for key, value in values.items()
        )
        + '</dl>'
    )


def _paragraphs(texts: Sequence[str]) -> str:
    return ''.join(f'<p>{html.escape(text)}</p>' for text in texts)


def _parts_html(parts: Sequence[Panel | Table], prefix: str) -> str:
    return ''.join(
        table_html(part) if isinstance(part, Table) else figure_html(part, f'{prefix}{number}')
        for number, part in enumerate(parts)
    )


def build_report(report: Report) -> str:
    """Makes the page.

    Args:
        report: its content.

    Returns:
        A complete HTML document.

    Raises:
        ValueError: the results hold no system.
    """
    results = report.results
    if not results.get('systems'):
        raise ValueError("the results hold no system, so there is nothing to report: run the comparison first")
    names = list(results['systems'])
    labels = {name: report.label(name) for name in names}
    marked, styles = report.marked, report.styles
    bars = plots.wer_bars(
        {name: results['systems'][name]['wer'] for name in names},
        {name: value['wer'] for name, value in results.get('intervals', {}).items()},
        labels,
        styles,
    )
    sections: list[tuple[str, str, str]] = []
    if report.story or report.settings:
        body = _paragraphs(report.story)
        if report.settings:
            body += f'<details><summary>Settings</summary>{_definition_list(report.settings)}</details>'
        sections.append(('done', 'What was done', body))
    body = table_html(result_table(report), names.index(marked) if marked in names else None)
    caption = "Mean test WER; the line is the 95 % interval over utterances" + (
        ", the dots are the seeds." if len(results.get('seeds', ())) > 1 else "."
    )
    body += figure_html(Panel(bars, caption, 'bar chart of the word error rates'), 'bars')
    pairs = pair_table(report)
    sections.append(('results', 'Results', body + (table_html(pairs) if pairs else '')))
    for number, section in enumerate(report.sections):
        body = _paragraphs(section.text) + _parts_html(section.parts, f'section{number}-')
        sections.append((f'section{number}', section.title, body))
    curves = {name: list(runs.values()) for name, runs in results.get('curves', {}).items() if any(runs.values())}
    if curves:
        figure = plots.learning_curves({name: curves[name] for name in names if name in curves}, labels, styles)
        caption = "Word error rate on the validation set, by updates and by time. Validation is not counted as time."
        sections.append(
            ('curves', 'Learning curves', figure_html(Panel(figure, caption, 'learning curves'), 'curves'))
        )
    for key, title, panels in (
        ('alignments', 'What the models emit, and when', report.alignments),
        ('attention', 'What the teacher reads while it listens', report.attention),
    ):
        if panels:
            body = ''.join(figure_html(panel, f'{key}{number}') for number, panel in enumerate(panels))
            sections.append((key, title, body))
    if report.diagnosis or report.verdict:
        body = f'<p class="verdict">{html.escape(report.verdict)}</p>' if report.verdict else ''
        body += _parts_html(report.diagnosis, 'diagnosis')
        sections.append(('diagnosis', 'Does the teacher listen, or copy?', body))
    if report.commands:
        body = '<pre><code>' + html.escape('\n'.join(report.commands)) + '</code></pre>'
        sections.append(('again', 'How to reproduce this', body))
    environment = describe_environment() if report.environment is None else report.environment
    sections.append(('environment', 'Environment', _definition_list(environment)))
    return page_html(report.title, report.lead, sections, headline_html(report))


def write_report(report: Report, path: str | Path) -> Path:
    """Writes the page atomically and returns its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, build_report(report))
    return path
