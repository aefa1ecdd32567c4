# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Chooses the rows of a scored manifest by an expression, and stores measures in the rows, for weights."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.files import CHECKSUM, refuse_changed, write_scored
from nemo_oracle_kd.labelling.filter_expression import (
    Node,
    comparisons,
    evaluate,
    measures_of,
    parse,
    resolve_quantiles,
    terms_of,
)
from nemo_oracle_kd.labelling.format import FIELDS_KEY, header_path, read_header
from nemo_oracle_kd.labelling.measures import Measures

__all__ = ['Selection', 'Threshold', 'read_scored', 'select', 'store_measures', 'write_selection']


@dataclass(frozen=True)
class Threshold:
    """A comparison with a number.

    Attributes:
        source: the comparison as it was written.
        measure: what is compared, as it was written.
        sign: `<`, `<=`, `>`, `>=`, `==` or `!=`; the limit is on its right.
        limit: the number.
        values: of all rows; `None` where there is none.
        other: name of the manifest that an error rate is against, or `None`.
    """

    source: str
    measure: str
    sign: str
    limit: float
    values: list[float | None]
    other: str | None = None


@dataclass(frozen=True)
class Selection:
    """Which rows are kept.

    Attributes:
        kept: of each row.
        reasons: of each row, why it is dropped; empty for those that are kept.
        thresholds: every comparison with a number, quantiles included.
    """

    kept: list[bool]
    reasons: list[str]
    thresholds: list[Threshold]


def read_scored(path: str | Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows and the header of a scored manifest.

    Raises:
        ConfigError: it has no header, or was changed after it was written.
        ManifestError: it is no manifest.
    """
    path = Path(path)
    rows = read_manifest(path, check_audio=False)
    header = read_header(path)
    if header is None:
        raise ConfigError(
            f"{path} has no header {header_path(path).name}: give what `nemo-oracle-kd score`, import, filter or combine wrote, "
            "with its header beside it"
        )
    refuse_changed(path, header)
    return rows, header


def select(measures: Measures, expression: str) -> Selection:
    """Applies an expression to all rows.

    Args:
        measures: of the rows.
        expression: see `filter_expression`.

    Raises:
        ConfigError: the expression is wrong, or names a measure that no row has.
    """
    node = parse(expression, measures.names)
    _refuse_unknown(measures, node)
    node = resolve_quantiles(node, lambda part, share: _quantile(_numbers(measures, part), share))
    terms = terms_of(node)
    reasons = [_reason(measures, terms, index) for index in range(len(measures.rows))]
    return Selection([not reason for reason in reasons], reasons, _thresholds(measures, node))


def _refuse_unknown(measures: Measures, node: Node) -> None:
    problems = []
    for name, argument in sorted(measures_of(node), key=str):
        if all(value is None for value in measures.values(name, argument)):
            shown = name if argument is None else f'{name}({argument})'
            problems.append(
                f"no row has a value of {shown}: {_fix(name, argument)}, or leave it out of the expression"
            )
    ConfigError.raise_if_any(problems)


def _fix(name: str, argument: str | None) -> str:
    if argument == 'reference':
        return "add `reference_text` to the manifest that was labelled"
    if name in ('nll', 'nll_per_token', 'tokens', 'entropy'):
        return "import the texts with their scores"
    if name == 'margin':
        return "label the speech with --nbest 2 or more"
    return "import it with --fields" if name == 'field' else "import a file that holds it"


def _numbers(measures: Measures, node: Node) -> list[float | None]:
    """The value of an expression for each row."""
    columns = {key: measures.values(*key) for key in measures_of(node)}
    return [evaluate(node, lambda *key: columns[key][index]) for index in range(len(measures.rows))]  # noqa: B023


def _quantile(values: Sequence[float | None], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    known = sorted(value for value in values if value is not None)
    if not known:
        raise ConfigError("a quantile is asked of what no row has a value of: leave it out of the expression")
    return known[max(0, math.ceil(share * len(known)) - 1)]


def _reason(measures: Measures, terms: Sequence[Node], index: int) -> str:
    for term in terms:
        found = evaluate(term, lambda *key: measures.values(*key)[index])
        if found is not True:
            values = {key: measures.values(*key)[index] for key in sorted(measures_of(term), key=str)}
            shown = ', '.join(
                f'{name}{"" if argument is None else f"({argument})"} = {_shown(value)}'
                for (name, argument), value in values.items()
            )
            return f'not {_one_line(term.source)}: {shown}'
    return ''


def _shown(value: Any) -> str:
    return 'unknown' if value is None else f'{value:.4g}' if isinstance(value, (int, float)) else str(value)


def _one_line(source: str) -> str:
    return re.sub(r'\s+', ' ', source).replace(':', ' ')


def _thresholds(measures: Measures, node: Node) -> list[Threshold]:
    found = {}
    for part in comparisons(node):
        measure, limit = part.parts
        others = {argument for name, argument in measures_of(measure) if name in ('wer', 'cer')}
        found[part.source] = Threshold(
            _one_line(part.source),
            _one_line(measure.source),
            part.kind,
            evaluate(limit, lambda *_: None),
            _numbers(measures, measure),
            min(others) if len(others) == 1 else None,
        )
    return list(found.values())


def store_measures(measures: Measures, wanted: Mapping[str, str], chosen: Sequence[int]) -> list[dict[str, Any]]:
    """All rows, the chosen ones with values in their `teacher_fields`, from which objectives take weights.

    Args:
        measures: of the rows.
        wanted: name of the field -> expression, whose value is a number.
        chosen: indices of the rows that are kept.

    Raises:
        ConfigError: an expression is wrong, or a chosen row has no value of it.
    """
    rows = [dict(row) for row in measures.rows]
    problems = []
    for name, expression in wanted.items():
        values = _numbers(measures, parse(expression, measures.names, 'number'))
        missing = sum(values[index] is None for index in chosen)
        if missing:
            problems.append(
                f"{missing} of {len(chosen)} kept rows have no value of `{expression}`: drop them with --keep"
            )
            continue
        for index in chosen:
            fields = rows[index].get(FIELDS_KEY) or {}
            rows[index][FIELDS_KEY] = {**fields, name: round(values[index], 6) + 0.0}
    ConfigError.raise_if_any(problems)
    return rows


def write_selection(
    output: str | Path, source: str | Path, settings: Mapping[str, Any], rows: Sequence[dict], selection: Selection
) -> None:
    """Writes the kept rows as they are, so that their hashes hold, and the dropped ones beside them with the reason.

    Args:
        output: path of the manifest.
        source: the scored manifest that was filtered, whose header is continued.
        settings: what was asked for, for the header.
        rows: all rows.
        selection: which of them to keep.
    """
    before = read_header(source) or {}
    header = {**before, 'filtered': [*before.get('filtered', ()), {**settings, CHECKSUM: before.get(CHECKSUM)}]}
    kept = [row for row, keep in zip(rows, selection.kept) if keep]
    dropped = [{**row, 'dropped_because': reason} for row, reason in zip(rows, selection.reasons) if reason]
    write_scored(output, header, kept, dropped)
