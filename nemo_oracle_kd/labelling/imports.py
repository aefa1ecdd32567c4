# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Imports the texts and scores of another recogniser into a scored manifest, as `score` writes it.

Everything that may be wrong with the files is found before the first row is written. Normalising is the slow part; its results
go to a journal, so that an interrupted import continues where it stopped and ends with the same bytes.
"""

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nemo_oracle_kd.corpus.findings import Findings
from nemo_oracle_kd.corpus.manifest import AUDIO_KEY, read_manifest
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.files import (
    OUTCOME,
    SCORED_FORMAT,
    ScoringReport,
    check_output,
    finished_report,
    journal_path,
    write_scored,
)
from nemo_oracle_kd.labelling.format import Fingerprint, scored_row, short_hash
from nemo_oracle_kd.labelling.hypotheses import HypothesisFile, Utterance
from nemo_oracle_kd.labelling.journal import Journal
from nemo_oracle_kd.labelling.normalisation import Changes, Normaliser
from nemo_oracle_kd.labelling.score_reading import SCORE_SENTENCES, ScoreReading, UnusableScore
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = ['SKIPS', 'ImportPlan', 'import_hypotheses']

#: decimals of a written log-probability: those of the file are kept, unlike those of a model that runs here
DECIMALS = 6
_BLOCK = 500

#: what may be skipped -> (the reason in the dropped rows, end of the sentence that refuses it)
SKIPS = {
    'missing': (
        'no hypothesis',
        "have no text in {file}: name them as the manifest does, or drop them with --skip-missing",
    ),
    'unknown': (
        '',
        "name no row of {manifest}: name the audio file or the `id` of its row, or leave them out with --skip-unknown",
    ),
    'empty': (
        'empty text',
        "have an empty text, or nothing is left of it: correct it, or drop these rows with --skip-empty",
    ),
    'unwritable': (
        'outside the alphabet',
        "have a text outside the alphabet: give another --alphabet or --normalizer, or drop these rows with --skip-unwritable",
    ),
}
_AMBIGUOUS = "name several rows of {manifest}: give those rows different `id`s and use these names"
_TWICE = "name a row of {manifest} that another of them names too: keep one"

Scored = tuple[float | None, str, int | None]


@dataclass(frozen=True)
class ImportPlan:
    """What is imported, and how.

    Attributes:
        file: the hypotheses.
        reading: what their scores mean.
        normaliser: the rules for texts.
        skip: those of `SKIPS` that are left out instead of refused.
        name: name of the recogniser; files that are imported under one name count as one teacher. `None` stands for the
            content of this file.
    """

    file: HypothesisFile
    reading: ScoreReading
    normaliser: Normaliser
    skip: frozenset[str] = field(default_factory=frozenset)
    name: str | None = None

    def header(self, manifest: Path) -> dict[str, Any]:
        """The header, with the fingerprint of what is imported."""
        content = hashlib.sha256()
        for path in self.file.files:
            content.update(path.read_bytes())
        said = {key: value for key, value in asdict(self.reading).items() if value is not None}
        settings = {'format': self.file.format, 'nbest_ids': self.file.nbest_ids, 'id_key': self.file.id_key}
        settings |= {'text_key': self.file.text_key, 'fields': list(self.file.more_fields), 'score': said}
        identity = short_hash([self.name or content.hexdigest(), self.file.format, said])
        decoding = short_hash([content.hexdigest(), settings, self.normaliser.description])
        return {
            'format': SCORED_FORMAT,
            'fingerprint': str(Fingerprint(identity, short_hash([self.name, said.get('length')]), decoding)),
            'teacher': {'class': 'ImportedTexts', 'name': self.name},
            'source': str(self.file.path),
            'import': settings,
            'normalisation': self.normaliser.description,
            'skipped': sorted(self.skip),
            'hypotheses_sha256': content.hexdigest(),
            'manifest_sha256': hashlib.sha256(manifest.read_bytes()).hexdigest(),
            'shard': [0, 1],
        }


def import_hypotheses(
    plan: ImportPlan, manifest: str | Path, output: str | Path, overwrite: bool = False
) -> tuple[ScoringReport, Changes | None]:
    """Writes the scored manifest.

    Args:
        plan: what is imported.
        manifest: the speech.
        output: path of the scored manifest.
        overwrite: whether to replace an existing output or unfinished import.

    Returns:
        What was written, and what normalisation changed; `None` if the import was finished before.

    Raises:
        ConfigError: everything that is wrong, one sentence for each kind of mistake; nothing is written then.
        ManifestError: a manifest that cannot be used.
    """
    manifest, output = Path(manifest), Path(output)
    check_output(output, [manifest, *plan.file.files], overwrite)
    rows = read_manifest(manifest, require_text=False)
    header = plan.header(manifest)
    if overwrite:
        journal_path(output).unlink(missing_ok=True)
    elif output.exists() and not journal_path(output).exists():
        return finished_report(output, header), None
    found = _matched(plan, rows, plan.file.read(), manifest)
    scores = _scores(plan, found)
    output.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(journal_path(output), header, volatile=OUTCOME)
    try:
        _normalise_rest(plan, rows, found, scores, header['fingerprint'], journal)
        results = dict(journal.entries)
        problems = _refused(plan, found, results)
        if problems:
            journal.remove()
            raise ConfigError(problems)
        kept = [results[index] for index in range(len(rows)) if isinstance(results[index], dict)]
        dropped = [
            {**rows[index], 'dropped_because': results[index]}
            for index in range(len(rows))
            if isinstance(results[index], str)
        ]
        report = write_scored(output, header, kept, dropped)
        journal.remove()
    finally:
        journal.close()
    labelled = [index for index in sorted(found) if isinstance(results[index], dict)]
    return report, Changes((scores[index][0][1], results[index]['text']) for index in labelled)


def _names(row: dict[str, Any]) -> Iterator[str]:
    """The names by which a hypothesis may mean a row: its `id`, and its audio file with and without folder and ending."""
    if isinstance(row.get('id'), (str, int)):
        yield str(row['id'])
    audio = row[AUDIO_KEY]
    base = os.path.basename(audio)
    yield from (audio, base, os.path.splitext(base)[0])


def _matched(
    plan: ImportPlan, rows: Sequence[dict], utterances: Sequence[Utterance], manifest: Path
) -> dict[int, Utterance]:
    """Index of the row -> utterance."""
    index: dict[str, int | None] = {}
    for number, row in enumerate(rows):
        for name in dict.fromkeys(_names(row)):
            index[name] = None if name in index else number
    sentences = {'unknown': SKIPS['unknown'][1], 'ambiguous': _AMBIGUOUS, 'twice': _TWICE}
    findings = Findings({k: v.format(manifest=manifest) for k, v in sentences.items()}, str(plan.file.path))
    found: dict[int, Utterance] = {}
    for utterance in utterances:
        names = (utterance.id, os.path.abspath(manifest.parent / utterance.id), os.path.basename(utterance.id))
        name = next((name for name in names if name in index), None)
        if name is None:
            if 'unknown' not in plan.skip:
                findings.add('unknown', utterance.where, f'{utterance.id!r}')
        elif index[name] is None:
            findings.add('ambiguous', utterance.where, f'{utterance.id!r}')
        elif index[name] in found:
            findings.add('twice', utterance.where, f'{utterance.id!r}')
        else:
            found[index[name]] = utterance
    problems = list(findings.sentences(len(utterances)))
    missing = Findings({'missing': SKIPS['missing'][1].format(file=plan.file.path)}, str(manifest))
    for number, row in enumerate(rows):
        if number not in found and 'missing' not in plan.skip:
            missing.add('missing', row[AUDIO_KEY])
    ConfigError.raise_if_any([*problems, *missing.sentences(len(rows))])
    return found


def _scores(plan: ImportPlan, found: dict[int, Utterance]) -> dict[int, list[Scored]]:
    """Index of the row -> log-probability, text as the file has it, and number of tokens, of each of its texts."""
    findings = Findings(SCORE_SENTENCES, str(plan.file.path))
    scores: dict[int, list[Scored]] = {}
    for index, utterance in found.items():
        scores[index] = []
        for text in utterance.texts:
            if plan.reading.texts_only or not normalize_spaces(text.text):
                scores[index].append((None, text.text, None))
                continue
            try:
                log_prob, tokens = plan.reading.read(text)
            except UnusableScore as error:
                findings.add(str(error), utterance.where, f'{utterance.id!r}')
            else:
                scores[index].append((log_prob, text.text, tokens))
        scores[index].sort(key=lambda entry: math.inf if entry[0] is None else -entry[0])
    ConfigError.raise_if_any(findings.sentences(len(found)))
    return scores


def _normalise_rest(plan, rows, found, scores, fingerprint: str, journal: Journal) -> None:
    done = {index for index, _ in journal.entries}
    rest = [index for index in range(len(rows)) if index not in done]
    with tqdm(total=len(rows), initial=len(done), desc='importing', unit='utt') as bar:
        for start in range(0, len(rest), _BLOCK):
            block = rest[start : start + _BLOCK]
            journal.add(
                [
                    (index, _result(plan, rows[index], found.get(index), scores.get(index), fingerprint))
                    for index in block
                ]
            )
            bar.update(len(block))


def _result(
    plan: ImportPlan, row: dict, utterance: Utterance | None, scores: list[Scored] | None, fingerprint: str
) -> Any:
    """The scored row, or the reason why there is none."""
    if utterance is None:
        return SKIPS['missing'][0]
    texts = _in_alphabet(plan.normaliser, scores)
    if isinstance(texts, str):
        return texts
    if plan.reading.texts_only:
        texts = texts[:1]
    if row.get('duration') is None:
        from nemo_oracle_kd.bridge.audio import AudioSpan, audio_seconds

        try:
            row = {**row, 'duration': audio_seconds(AudioSpan.of_row(row))}
        except Exception as error:  # whatever the reader of the audio raises
            return f'unreadable audio: {type(error).__name__}'
    return scored_row(row, texts, fingerprint, fields=utterance.fields)


def _in_alphabet(normaliser: Normaliser, scores: list[Scored]) -> list[Scored] | str:
    """The texts that the student can write, the best first; or the reason why there are none.

    Different texts that normalisation makes equal are one event: their probabilities are added.
    """
    written = {text: normaliser(text) for _, text, _ in scores}
    if not any(written.values()):
        return SKIPS['empty'][0]
    merged: dict[str, dict[str, Scored]] = {}
    for entry in scores:
        text = written[entry[1]]
        if text and (normaliser.alphabet is None or normaliser.alphabet.can_write(text)):
            merged.setdefault(text, {}).setdefault(entry[1], entry)  # of the same text twice, the best counts
    if not merged:
        return SKIPS['unwritable'][0] + ': ' + next(text for text in written.values() if text)
    summed = [_sum(list(entries.values()), text) for text, entries in merged.items()]
    return summed if summed[0][0] is None else sorted(summed, key=lambda entry: (-entry[0], entry[1]))


def _sum(entries: Sequence[Scored], text: str) -> Scored:
    """A text with the sum of the probabilities of those that became it, and the tokens of the best of these."""
    best, _, tokens = entries[0]
    if best is None:
        return None, text, None
    total = best + math.log(math.fsum(math.exp(log_prob - best) for log_prob, _, _ in entries))
    return round(min(total, 0.0), DECIMALS) + 0.0, text, tokens


def _refused(plan: ImportPlan, found: dict[int, Utterance], results: dict[int, Any]) -> list[str]:
    kinds = {SKIPS[kind][0]: kind for kind in ('empty', 'unwritable')}
    findings = Findings({kind: SKIPS[kind][1] for kind in kinds.values()}, str(plan.file.path))
    for index, utterance in found.items():
        reason, _, text = results[index].partition(': ') if isinstance(results[index], str) else ('', '', '')
        kind = kinds.get(reason)
        if kind is not None and kind not in plan.skip:
            findings.add(kind, utterance.where, f'{utterance.id!r}' + (f', {text[:60]!r}' if text else ''))
    return list(findings.sentences(len(found)))
