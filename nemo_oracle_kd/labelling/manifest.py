# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Scoring a whole manifest: batches by length, audio read ahead, a journal to resume from, filters, the header."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from nemo_oracle_kd.bridge.audio import AudioSpan, audio_seconds, read_audio
from nemo_oracle_kd.bridge.model import frame_seconds
from nemo_oracle_kd.bridge.vocabulary import UnwritableText
from nemo_oracle_kd.corpus.manifest import AUDIO_KEY, read_manifest, write_manifest, write_text_atomically
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import REFERENCE_KEY, RowFilter, header_path, read_header
from nemo_oracle_kd.labelling.journal import Journal, first_difference
from nemo_oracle_kd.labelling.scorer import Scorer

__all__ = ['ScoringReport', 'dropped_path', 'journal_path', 'merge_shards', 'score_manifest', 'shard_path']

FORMAT = 'nemo_oracle_kd scored manifest, version 1'
KEEP_ALL = RowFilter()
#: keys of the header that say what came out, not what was asked for
OUTCOME = ('rows', 'dropped', 'source')


@dataclass
class ScoringReport:
    """What a run did.

    Attributes:
        rows: rows written.
        dropped: reason -> rows.
        seconds: audio scored by this start of the run.
        wall: seconds that took.
    """

    rows: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    wall: float = 0.0


def journal_path(output: str | Path) -> Path:
    """The journal of an unfinished run."""
    return Path(f'{output}.journal')


def dropped_path(output: str | Path) -> Path:
    """The rows that were not kept, each with `dropped_because`."""
    return Path(f'{output}.dropped.jsonl')


def shard_path(output: str | Path, shard: int, shards: int) -> Path:
    """The part of the output that one process writes; the parts in order are the whole."""
    return Path(output) if shards == 1 else Path(f'{output}.{shard}-of-{shards}')


def score_manifest(
    scorer: Scorer,
    manifest: str | Path,
    output: str | Path,
    row_filter: RowFilter = KEEP_ALL,
    batch_size: int = 8,
    shard: int = 0,
    shards: int = 1,
    skip_unwritable: bool = False,
    overwrite: bool = False,
    source: str = '',
    on_batch: Callable[[], None] = lambda: None,
) -> ScoringReport:
    """Scores a manifest and writes another.

    Results are kept batch by batch in a journal; a run that is started again after any kind of death continues behind the
    last whole batch and ends with the same bytes, for it forms the same batches. A finished run returns at once.

    Args:
        scorer: the teacher.
        manifest: what to score; rows need `text` for the source `reference`, `teacher_nbest` for `nbest`.
        output: where the scored manifest goes, or its part (see `shard_path`) if there are several shards.
        row_filter: which rows to keep.
        batch_size: utterances at a time.
        shard: which contiguous part of the manifest to score, from 0.
        shards: number of parts.
        skip_unwritable: drop rows whose text the teacher cannot write, instead of refusing the manifest.
        overwrite: begin anew whatever lies at `output`.
        source: name of the teacher for the header.
        on_batch: called between batches.

    Raises:
        ConfigError: `output` belongs to another run; texts that the teacher cannot write.
        ValueError: a manifest that cannot be used.
    """
    if batch_size < 1:
        raise ConfigError(f"the batch size must be at least 1, not {batch_size}")
    if not 0 <= shard < shards:
        raise ConfigError(f"the shard must lie between 0 and {shards - 1}, not {shard}")
    if Path(output).resolve() == Path(manifest).resolve():
        raise ConfigError(f"{output} is the manifest itself: give another output")
    rows = read_manifest(manifest, require_text=scorer.settings.source == 'reference')
    rows = rows[len(rows) * shard // shards : len(rows) * (shard + 1) // shards]
    _check_references(scorer, rows, manifest, row_filter)
    unwritable = _unwritable(scorer, rows, manifest, skip_unwritable)
    output = shard_path(output, shard, shards)
    header = _header(scorer, manifest, row_filter, shard, shards, skip_unwritable, source)
    if overwrite:
        for path in (output, header_path(output), journal_path(output), dropped_path(output)):
            path.unlink(missing_ok=True)
    elif output.exists() and not journal_path(output).exists():
        return _finished(output, header)
    output.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(journal_path(output), header, volatile=OUTCOME)
    try:
        report = ScoringReport()
        _score_rest(scorer, rows, unwritable, row_filter, batch_size, journal, report, on_batch, position=shard)
        _write(output, header, rows, journal, report)
        journal.remove()
    finally:
        journal.close()
    return report


def merge_shards(output: str | Path, shards: int) -> ScoringReport:
    """Joins the finished parts to one manifest with one header, and removes them."""
    parts = [shard_path(output, shard, shards) for shard in range(shards)]
    headers = [read_header(part) for part in parts]
    kept = [row for part in parts for row in _lines(part)]
    dropped = [row for part in parts for row in _lines(dropped_path(part))]
    reasons = Counter()
    for header in headers:
        reasons.update(header['dropped'])
    _write_files(output, {**headers[0], 'shard': [0, 1]}, kept, dropped, dict(reasons))
    for part in parts:
        for path in (part, header_path(part), dropped_path(part)):
            path.unlink(missing_ok=True)
    return ScoringReport(len(kept), dict(reasons))


def _lines(path: Path) -> Sequence[dict[str, Any]]:
    # a part may be empty, because every row of it was dropped
    return read_manifest(path, require_text=False, check_audio=False) if path.exists() and path.stat().st_size else []


def _header(scorer, manifest, row_filter, shard, shards, skip_unwritable, source) -> dict[str, Any]:
    return {
        'format': FORMAT,
        'fingerprint': str(scorer.fingerprint),
        'teacher': {
            'class': type(scorer.model).__name__,
            'identity': scorer.identity,
            'head': scorer.head.kind,
            'vocabulary': scorer.codec.fingerprint,
            'vocabulary_size': len(scorer.head.vocabulary),
            'sample_rate': scorer.sample_rate,
            'frame_seconds': frame_seconds(scorer.model),
        },
        'source': source,
        'decoding': scorer.decoding,
        'filter': {**asdict(row_filter), 'skip_unwritable': skip_unwritable},
        'manifest_sha256': hashlib.sha256(Path(manifest).read_bytes()).hexdigest(),
        'shard': [shard, shards],
    }


def _finished(output: Path, header: dict[str, Any]) -> ScoringReport:
    before = read_header(output)
    if before is None:
        raise ConfigError(f"{output} exists and is no scored manifest: give another --output, or --overwrite")
    difference = first_difference(*({k: v for k, v in of.items() if k not in OUTCOME} for of in (before, header)))
    if difference:
        raise ConfigError(
            f"{output} was made by a different run ({difference}): give another --output, or --overwrite"
        )
    return ScoringReport(before['rows'], before['dropped'])


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
                scorer.check_writable(text)
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


def _span(row: dict[str, Any]) -> AudioSpan:
    return AudioSpan(row[AUDIO_KEY], float(row.get('offset') or 0.0), row.get('duration'))


def _score_rest(scorer, rows, unwritable, row_filter, batch_size, journal, report, on_batch, position) -> None:
    done = {index for index, _ in journal.entries}
    seconds: dict[int, float] = {}
    early: list[tuple[int, str]] = []
    for index in (i for i in range(len(rows)) if i not in done):
        try:
            length = audio_seconds(_span(rows[index]))
            reason = row_filter.before_scoring(length)
        except Exception as error:  # no duration given and no readable file
            length, reason = 0.0, f'unreadable audio: {type(error).__name__}'
        reason = 'not writable in the labels of the teacher' if index in unwritable else reason
        if reason is None:
            seconds[index] = length
        else:
            early.append((index, reason))
    if early:
        journal.add(early)
    # The longest first: memory runs out at once or never. Utterances of similar length waste little on padding.
    order = sorted(seconds, key=lambda index: (-seconds[index], index))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    start = time.perf_counter()
    bar = tqdm(total=len(rows), initial=len(rows) - len(order), desc='scoring', unit='utt', position=position)
    with bar:
        for batch, signals in _read_ahead(rows, batches, scorer.sample_rate):
            on_batch()
            journal.add(_score_batch(scorer, rows, seconds, batch, signals, row_filter))
            report.seconds += sum(seconds[index] for index in batch)
            report.wall = time.perf_counter() - start
            bar.set_postfix_str(f'real-time factor {report.wall / max(report.seconds, 1e-9):.3f}', refresh=False)
            bar.update(len(batch))


def _read_ahead(rows, batches, sample_rate) -> Iterator[tuple[list[int], list[Any]]]:
    """Batches with their audio; the next batch is read while the model works on this one."""

    def read(batch: list[int]) -> list[Any]:
        signals = []
        for index in batch:
            try:
                signals.append(read_audio(_span(rows[index]), sample_rate))
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


def _write(output: Path, header: dict[str, Any], rows: list[dict], journal: Journal, report: ScoringReport) -> None:
    results = dict(journal.entries)
    kept = [results[index] for index in range(len(rows)) if not isinstance(results[index], str)]
    dropped = [
        {**rows[index], 'dropped_because': results[index]}
        for index in range(len(rows))
        if isinstance(results[index], str)
    ]
    reasons = Counter(row['dropped_because'].split(':')[0] for row in dropped)
    report.rows, report.dropped = len(kept), dict(sorted(reasons.items()))
    _write_files(output, header, kept, dropped, report.dropped)


def _write_files(
    output: str | Path, header: dict, kept: list[dict], dropped: list[dict], reasons: dict[str, int]
) -> None:

    outcome = {**header, 'rows': len(kept), 'dropped': dict(sorted(reasons.items()))}
    write_text_atomically(header_path(output), json.dumps(outcome, indent=2, ensure_ascii=False) + '\n')
    if dropped:
        write_manifest(dropped_path(output), dropped)
    else:
        dropped_path(output).unlink(missing_ok=True)  # of an earlier run
    write_manifest(output, kept)
