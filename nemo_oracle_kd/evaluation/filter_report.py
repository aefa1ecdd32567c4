# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Shows what a filter keeps and drops: a few lines to print, and one self-contained page with pictures and examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nemo_oracle_kd.corpus.manifest import REFERENCE_KEY
from nemo_oracle_kd.evaluation.error_rates import ErrorCounts, score
from nemo_oracle_kd.evaluation.figure_style import COLOURS, FOREGROUND, LINES, new_figure, styled
from nemo_oracle_kd.evaluation.report import Panel, Table, figure_html, table_html
from nemo_oracle_kd.evaluation.report_style import page_html
from nemo_oracle_kd.labelling.filtering import Selection, Threshold
from nemo_oracle_kd.labelling.measures import Measures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['FilterReport']

#: rows that are shown on either side of a threshold
EXAMPLES = 4


class FilterReport:
    """The outcome of a filter.

    Args:
        measures: of all rows.
        selection: which rows are kept.
        expression: by which.
    """

    def __init__(self, measures: Measures, selection: Selection, expression: str):
        self.measures, self.selection, self.expression = measures, selection, expression
        self.rows = measures.rows
        self.kept = np.array(selection.kept, dtype=bool)
        self.seconds = np.array([row.get('duration') or 0.0 for row in self.rows], dtype=float)
        #: rows whose truth is known, and their word errors
        self.known = np.array([isinstance(row.get(REFERENCE_KEY), str) for row in self.rows], dtype=bool)
        self._errors = self._words = np.zeros(len(self.rows))
        truth = [row for row, known in zip(self.rows, self.known) if known]
        if truth:
            counts = score([row[REFERENCE_KEY] for row in truth], [row['text'] for row in truth]).words
            self._errors, self._words = self._spread(counts)

    def _spread(self, counts: ErrorCounts) -> tuple[np.ndarray, np.ndarray]:
        errors, words = np.zeros(len(self.rows)), np.zeros(len(self.rows))
        errors[self.known], words[self.known] = counts.errors, counts.reference_lengths
        return errors, words

    def wer(self, chosen: np.ndarray) -> float | None:
        """Percent, over the chosen rows whose truth is known; `None` if there is no word."""
        words = self._words[chosen].sum()
        return 100.0 * float(self._errors[chosen].sum() / words) if words else None

    def table(self) -> Table:
        """Rows, hours and, where truth is known, word error rate of what was kept and dropped."""
        rows = []
        for name, chosen in (('all', self.kept | True), ('kept', self.kept), ('dropped', ~self.kept)):
            wer = self.wer(chosen)
            share = float(self.seconds[chosen].sum() / max(self.seconds.sum(), 1e-9))
            rows.append(
                [
                    name,
                    str(int(chosen.sum())),
                    f'{self.seconds[chosen].sum() / 3600:.2f}',
                    f'{100 * share:.1f} %',
                    '–' if wer is None else f'{wer:.2f}',
                ]
            )
        note = (
            f'The WER is that of the {int(self.known.sum())} rows whose true text is known.'
            if self.known.any()
            else ''
        )
        return Table(['rows', 'number', 'hours', 'share of the time', 'WER %'], rows, note)

    def lines(self) -> list[str]:
        """What to print: the table, and how many rows each condition drops first."""
        found = []
        for name, number, hours, share, wer in self.table().rows:
            found.append(f'{name:8}{number:>9} rows{hours:>9} h{share:>9}' + ('' if wer == '–' else f'   WER {wer} %'))
        reasons = Counter(reason.split(':')[0] for reason in self.selection.reasons if reason)
        return found + [f'dropped {count} rows: {reason}' for reason, count in reasons.most_common()]

    def page(self) -> str:
        """The HTML page."""
        sections = [
            (
                'kept',
                'What was kept',
                table_html(self.table(), highlight=1) + self._panel(self._durations(), 'durations'),
            ),
        ]
        if self.known.any() and self.selection.thresholds:
            caption = (
                "Rows are taken in the order of a measure, the best first; the line is the word error rate of those taken so "
                "far, the point is the threshold. A measure that falls steeply to the left finds the errors."
            )
            sections.append(('wer', 'Errors by measure', self._panel(self._risk(), 'wer', caption)))
        for number, threshold in enumerate(self.selection.thresholds):
            body = self._panel(self._histogram(threshold), f'threshold{number}') + table_html(
                self._examples(threshold)
            )
            sections.append((f'threshold{number}', threshold.source, body))
        return page_html('What the filter keeps', self.expression, sections)

    def _panel(self, figure: Figure, name: str, caption: str = 'Kept and dropped rows.') -> str:
        return figure_html(Panel(figure, caption, name), name)

    @styled
    def _durations(self) -> Figure:
        figure, axes = new_figure(9.6, 3.0)
        _two_histograms(axes[0, 0], self.seconds, self.kept, weights=self.seconds / 3600)
        axes[0, 0].set_xlabel('duration (s)')
        axes[0, 0].set_ylabel('hours')
        return figure

    @styled
    def _histogram(self, threshold: Threshold) -> Figure:
        figure, axes = new_figure(9.6, 2.8)
        known = np.array([value is not None for value in threshold.values])
        values = np.array([value for value in threshold.values if value is not None], dtype=float)
        low, high = np.quantile(values, [0.0, 0.99]) if len(values) else (0.0, 1.0)
        high = max(high, threshold.limit, low + 1e-9)
        _two_histograms(axes[0, 0], np.clip(values, min(low, threshold.limit), high), self.kept[known])
        axes[0, 0].axvline(threshold.limit, color=FOREGROUND, linewidth=1.4, linestyle='--')
        axes[0, 0].set_xlabel(f'{threshold.measure} (the threshold is {threshold.limit:.4g})')
        axes[0, 0].set_ylabel('rows')
        return figure

    @styled
    def _risk(self) -> Figure:
        figure, axes = new_figure(9.6, 3.8)
        axis = axes[0, 0]
        for number, threshold in enumerate(self.selection.thresholds):
            usable = [i for i, value in enumerate(threshold.values) if value is not None and self.known[i]]
            direction = -1.0 if threshold.sign.startswith('>') else 1.0
            order = sorted(usable, key=lambda i: (direction * threshold.values[i], i))  # noqa: B023
            words = np.cumsum(self._words[order])
            errors = np.cumsum(self._errors[order])
            if not len(words) or not words[-1]:
                continue
            share = 100.0 * np.arange(1, len(order) + 1) / len(order)
            first = max(len(order) // 50, 1)  # the WER of a handful of rows says nothing
            style = {'color': COLOURS[1 + number % (len(COLOURS) - 1)], 'linestyle': LINES[number % len(LINES)]}
            wer = 100.0 * errors / np.maximum(words, 1)
            axis.plot(share[first - 1 :], wer[first - 1 :], label=threshold.measure, linewidth=1.8, **style)
            taken = sum(_passes(threshold, i) for i in order)
            if taken >= first:
                axis.plot(share[taken - 1], wer[taken - 1], 'o', color=style['color'], markersize=6)
        axis.set_xlabel('rows kept (%)')
        axis.set_ylabel('WER of the rows kept (%)')
        axis.set_ylim(bottom=0)
        axis.grid(color=FOREGROUND, alpha=0.12, linewidth=0.6)
        figure.legend(*axis.get_legend_handles_labels(), loc='outside lower center', ncols=3)
        return figure

    def _examples(self, threshold: Threshold) -> Table:
        """Rows just below and just above a threshold."""
        known = sorted((value, index) for index, value in enumerate(threshold.values) if value is not None)
        below = [entry for entry in known if entry[0] < threshold.limit][-EXAMPLES:]
        above = [entry for entry in known if entry[0] >= threshold.limit][:EXAMPLES]
        other = threshold.other or ('reference' if self.known.any() else None)
        cells = []
        for value, index in below + above:
            row = self.rows[index]
            against = None if other is None else self.measures.other_text(other, row)
            texts = [row['text']] + ([] if other is None else ['–' if against is None else against])
            cells.append([f'{value:.4g}', 'kept' if self.kept[index] else 'dropped', *texts])
        header = [threshold.measure, 'this filter', 'text'] + ([] if other is None else [other])
        return Table(header, cells, f'Rows just below and just above {threshold.limit:.4g}.', words=True)


def _passes(threshold: Threshold, index: int) -> bool:
    value, limit = threshold.values[index], threshold.limit
    return {
        '<': value < limit,
        '<=': value <= limit,
        '>': value > limit,
        '>=': value >= limit,
        '==': value == limit,
        '!=': value != limit,
    }[threshold.sign]


def _two_histograms(axis: Any, values: np.ndarray, kept: np.ndarray, weights: np.ndarray | None = None) -> None:
    bins = np.histogram_bin_edges(values, 40) if len(values) else 10
    parts: Sequence[Mapping] = (
        {'mask': kept, 'label': 'kept', 'color': COLOURS[2]},
        {'mask': ~kept, 'label': 'dropped', 'color': COLOURS[7]},
    )
    axis.hist(
        [values[part['mask']] for part in parts],
        bins=bins,
        weights=None if weights is None else [weights[part['mask']] for part in parts],
        stacked=True,
        label=[part['label'] for part in parts],
        color=[part['color'] for part in parts],
        alpha=0.85,
    )
    axis.legend()
    axis.grid(axis='y', color=FOREGROUND, alpha=0.12, linewidth=0.6)
