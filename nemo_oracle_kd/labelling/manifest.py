# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Scores a whole manifest: in batches by length, with audio read ahead, a journal to resume from, filters and a header."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from nemo_oracle_kd.bridge.audio import audio_seconds, read_audio
from nemo_oracle_kd.bridge.vocabulary import UnwritableText
from nemo_oracle_kd.corpus.manifest import LANGUAGE_KEY
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.files import (
    OUTCOME,
    SCORED_FORMAT,
    ScoringReport,
    check_output,
    finished_report,
    journal_path,
    part_path,
    write_scored,
)
from nemo_oracle_kd.labelling.format import REFERENCE_KEY, RowFilter
from nemo_oracle_kd.labelling.journal import Journal
from nemo_oracle_kd.labelling.scorer import NOT_A_NUMBER, NOT_WRITABLE, Scorer
from nemo_oracle_kd.labelling.sources import SpeechSource, manifest_source

__all__ = ['RunOptions', 'score_manifest']

#: reasons for which a row is dropped before it is scored, without the details after a colon
UNHEARD = ('unreadable audio', 'too short', 'too long', NOT_WRITABLE)


@dataclass(frozen=True)
class RunOptions:
    """How a manifest is processed.

    Attributes:
        row_filter: which rows to keep.
        batch_size: utterances per batch.
        part: index of the contiguous part of the manifest to score, from 0.
        parts: number of parts.
        skip_unwritable: whether rows whose text the teacher cannot write are dropped; otherwise the manifest is refused.
        overwrite: whether to replace an existing output or unfinished run.
        source: name of the teacher for the header.
    """

    row_filter: RowFilter = RowFilter()
    batch_size: int = 8
    part: int = 0
    parts: int = 1
    skip_unwritable: bool = False
    overwrite: bool = False
    source: str = ''

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"--batch-size must be at least 1, not {self.batch_size}")
        if not 0 <= self.part < self.parts:
            raise ConfigError(f"--shard must be from 0 to {self.parts - 1}, not {self.part}")


def score_manifest(
    scorer: Scorer, manifest: str | Path | SpeechSource, output: str | Path, options: RunOptions = RunOptions()
) -> ScoringReport:
    """Scores a manifest and writes the scored rows to another.

    The results of each batch go to a journal. A run that was killed and is started again continues after the last complete
    batch. It forms the same batches, and so writes the same bytes. A finished run returns at once.

    Args:
        scorer: the teacher.
        manifest: manifest to score, or speech from elsewhere; rows need `text` for the source `reference`, and `teacher_nbest`
            for `nbest`.
        output: path of the scored manifest; `part_path` gives the path of a part if there are several.
        options: how the manifest is processed.

    Raises:
        ConfigError: `output` belongs to another run or is an input; texts that the teacher cannot write; a teacher that
            gives no numbers.
        ValueError: a manifest that cannot be used.
    """
    output = part_path(output, options.part, options.parts)
    source = manifest
    if not isinstance(source, SpeechSource):
        source = manifest_source(manifest, require_text=scorer.settings.source == 'reference')
    check_output(output, source.inputs, options.overwrite)
    count = len(source.rows)
    rows = source.rows[count * options.part // options.parts : count * (options.part + 1) // options.parts]
    _check_references(scorer, rows, source.name, options.row_filter)
    unwritable = _unwritable(scorer, rows, source.name, options.skip_unwritable)
    header = _header(scorer, source, options)
    if options.overwrite:
        journal_path(output).unlink(missing_ok=True)
    elif output.exists() and not journal_path(output).exists():
        return finished_report(output, header)
    output.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(journal_path(output), header, volatile=OUTCOME)
    try:
        work = ScoringReport()
        _score_rest(scorer, replace(source, rows=rows), unwritable, options, journal, work)
        report = _write(output, header, rows, journal)
        journal.remove()
    finally:
        journal.close()
    report.seconds, report.wall = work.seconds, work.wall
    return report


def _header(scorer: Scorer, source: SpeechSource, options: RunOptions) -> dict[str, Any]:
    return {
        'format': SCORED_FORMAT,
        'fingerprint': str(scorer.fingerprint),
        'teacher': scorer.teacher,
        'source': options.source,
        'decoding': scorer.decoding,
        'filter': {**asdict(options.row_filter), 'skip_unwritable': options.skip_unwritable},
        'manifest_sha256': source.sha256,
        'shard': [options.part, options.parts],
    }


def _check_references(scorer: Scorer, rows: list[dict], manifest: str | Path, row_filter: RowFilter) -> None:
    if row_filter.max_wer is None:
        return
    keys = (REFERENCE_KEY, 'text') if scorer.settings.source == 'decode' else (REFERENCE_KEY,)
    missing = sum(not any(isinstance(row.get(key), str) for key in keys) for row in rows)
    if missing:
        raise ConfigError(
            f"{missing} of {len(rows)} rows of {manifest} have no reference ({' or '.join(f'`{key}`' for key in keys)}), "
            "without which their word error rate cannot be limited: add it, or leave --max-wer out"
        )


def _unwritable(scorer: Scorer, rows: list[dict], manifest: str | Path, skip: bool) -> set:
    """Indices of the rows with a given text that the teacher cannot write; refuses the manifest unless `skip`."""
    if scorer.settings.source == 'decode':
        return set()
    found, first = set(), ''
    for index, row in enumerate(tqdm(rows, desc='checking texts', unit='row', disable=len(rows) < 20000, leave=False)):
        try:
            for text in scorer.given_texts(row):
                scorer.check_writable(text, row.get(LANGUAGE_KEY))
        except UnwritableText as error:
            first = first or f"{text!r}: {error}"
            found.add(index)
    if found and not skip:
        raise ConfigError(
            f"{len(found)} of {len(rows)} rows of {manifest} hold a text that this teacher cannot write (the first, {first}), "
            "so its score would be that of another text: bring the texts to the teacher's alphabet and case, or leave these "
            "rows out with --skip-unwritable"
        )
    return found


def _score_rest(scorer, source, unwritable, options, journal, report) -> None:
    rows = source.rows
    done = {index for index, _ in journal.entries}
    seconds: dict[int, float] = {}
    early: list[tuple[int, str]] = []
    for index in (i for i in range(len(rows)) if i not in done):
        try:
            length = audio_seconds(source.span(rows[index]))
            reason = options.row_filter.before_scoring(length)
        except Exception as error:  # no duration given and no readable file
            length, reason = 0.0, f'unreadable audio: {type(error).__name__}'
        reason = NOT_WRITABLE if index in unwritable else reason
        if reason is None:
            seconds[index] = length
        else:
            early.append((index, reason))
    if early:
        journal.add(early)
    # The longest come first, so that memory runs out at once or never. Similar lengths in a batch need little padding.
    order = sorted(seconds, key=lambda index: (-seconds[index], index))
    batches = [order[start : start + options.batch_size] for start in range(0, len(order), options.batch_size)]
    start = time.perf_counter()
    bar = tqdm(total=len(rows), initial=len(rows) - len(order), desc='scoring', unit='utt', position=options.part)
    with bar:
        for batch, signals in _read_ahead(source, batches, scorer.sample_rate):
            journal.add(_score_batch(scorer, rows, seconds, batch, signals, options.row_filter))
            report.seconds += sum(seconds[index] for index in batch)
            report.wall = time.perf_counter() - start
            bar.set_postfix_str(f'real-time factor {report.wall / max(report.seconds, 1e-9):.3f}', refresh=False)
            bar.update(len(batch))


def _read_ahead(source, batches, sample_rate) -> Iterator[tuple[list[int], list[Any]]]:
    """Yields batches with their audio; the next batch is read while the model scores the current one."""

    def read(batch: list[int]) -> list[Any]:
        signals = []
        for index in batch:
            try:
                signals.append(read_audio(source.span(source.rows[index]), sample_rate))
            except ValueError as error:
                signals.append(error)
        return signals

    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = [pool.submit(read, batch) for batch in batches[:1]]
        for number, batch in enumerate(batches):
            signals = coming.pop().result()
            coming += [pool.submit(read, following) for following in batches[number + 1 : number + 2]]
            yield batch, signals


def _score_batch(scorer, rows, seconds, batch, signals, row_filter) -> list[tuple[int, Any]]:
    results: dict[int, Any] = {}
    heard = [(index, s) for index, s in zip(batch, signals) if isinstance(s, torch.Tensor)]
    for index, failure in zip(batch, signals):
        if isinstance(failure, Exception):
            results[index] = f'unreadable audio: {failure}'
    given = [{**rows[index], 'duration': rows[index].get('duration', seconds[index])} for index, _ in heard]
    if heard:
        scored = scorer.score(given, [signal for _, signal in heard])
        for (index, _), row in zip(heard, scored):
            results[index] = row if isinstance(row, str) else row_filter.after_scoring(row) or row
    return [(index, results[index]) for index in batch]


def _write(output: Path, header: dict[str, Any], rows: list[dict], journal: Journal) -> ScoringReport:
    results = dict(journal.entries)
    reasons = {index: result for index, result in results.items() if isinstance(result, str)}
    heard = [reasons.get(index, '') for index in results if reasons.get(index, '').split(':')[0] not in UNHEARD]
    if heard and set(heard) == {NOT_A_NUMBER}:
        raise ConfigError(
            f"none of the {len(heard)} scores of this teacher is a number (NaN): its weights are damaged or its training "
            "diverged, so use another checkpoint"
        )
    kept = [results[index] for index in range(len(rows)) if index not in reasons]
    dropped = [{**rows[index], 'dropped_because': reasons[index]} for index in range(len(rows)) if index in reasons]
    return write_scored(output, header, kept, dropped)
