# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Names, writes, checks and merges the files of a scored manifest.

Beside `OUT.jsonl` are `OUT.jsonl.header.json` (its settings and its checksum), `OUT.jsonl.dropped.jsonl` (the dropped rows)
and, while a run is unfinished, `OUT.jsonl.journal`. A run may be split into parts `OUT.jsonl.I-of-N`, each with these files,
which `merge_parts` joins.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_oracle_kd.corpus.manifest import manifest_text, read_manifest
from nemo_oracle_kd.corpus.outputs import check_outputs, write_text_atomically
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import header_path, read_header
from nemo_oracle_kd.labelling.journal import first_difference
from nemo_oracle_kd.labelling.parts import Part, parts_in_order

__all__ = [
    'ScoringReport',
    'check_new_output',
    'check_output',
    'dropped_path',
    'finished_report',
    'journal_path',
    'merge_parts',
    'part_path',
    'parts_of',
    'refuse_changed',
    'remove_part',
    'write_scored',
]

SCORED_FORMAT = 'nemo_oracle_kd scored manifest, version 1'
CHECKSUM = 'sha256'
#: keys of the header that describe the outcome of a run and not its settings
OUTCOME = ('rows', 'dropped', 'source', CHECKSUM)


@dataclass
class ScoringReport:
    """The outcome of a run.

    Attributes:
        rows: number of rows written.
        dropped: reason -> number of dropped rows.
        seconds: audio scored since this start of the run, seconds.
        wall: wall-clock time of that scoring, seconds.
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


def part_path(output: str | Path, part: int, parts: int) -> Path:
    """The path of one part of a split run; the parts, joined in order, are the whole output."""
    return Path(output) if parts == 1 else Path(f'{output}.{part}-of-{parts}')


def check_output(output: str | Path, inputs: Sequence[str | Path], overwrite: bool) -> None:
    """Refuses, before any work, an output that would destroy something; a run of the same output may be continued.

    Raises:
        ConfigError: the output is an input or no file, cannot be written, or is a file that was not made by scoring.
    """
    output = Path(output)
    if output.exists() and not output.is_file():
        raise ConfigError(
            f"{output} is not a file, but a header and a journal are kept beside the output: give the path of a file"
        )
    check_outputs({'--output': output}, inputs)
    beside = {f'{name} of --output': of(output) for name, of in _BESIDE.items()}
    check_outputs(beside, inputs)
    if output.exists() and not overwrite and not journal_path(output).exists() and read_header(output) is None:
        raise ConfigError(f"{output} exists and is not a scored manifest: give another --output, or use --overwrite")


def check_new_output(output: str | Path, inputs: Sequence[str | Path], overwrite: bool, **others: Any) -> None:
    """Refuses, before any work, a scored manifest that would destroy something; for commands that write it in one go.

    Args:
        output: path of the scored manifest.
        inputs: scored manifests that the command reads, each with its header.
        overwrite: whether existing files may be replaced.
        others: name of an option -> what else is written, or `None`.

    Raises:
        ConfigError: with one sentence for each output that is refused.
    """
    outputs = {'--output': output, 'the header': header_path(output), 'the dropped rows': dropped_path(output)}
    outputs |= {f'--{name}': path for name, path in others.items()}
    check_outputs(outputs, [*inputs, *map(header_path, inputs)], overwrite)


_BESIDE = {'the header': header_path, 'the journal': journal_path, 'the dropped rows': dropped_path}


def finished_report(output: Path, header: dict[str, Any]) -> ScoringReport:
    """Returns the report of a finished run.

    Raises:
        ConfigError: the output belongs to another run, or was changed after scoring.
    """
    before = read_header(output)
    if before is None:
        raise ConfigError(f"{output} exists and is not a scored manifest: give another --output, or use --overwrite")
    difference = first_difference(*({k: v for k, v in of.items() if k not in OUTCOME} for of in (before, header)))
    if difference:
        raise ConfigError(
            f"{output} was made by a different run ({difference}): give another --output, or use --overwrite"
        )
    refuse_changed(output, before)
    return ScoringReport(before['rows'], before['dropped'])


def refuse_changed(output: Path, header: dict[str, Any]) -> None:
    """Refuses a scored manifest that is no longer what its header says.

    Raises:
        ConfigError: its checksum differs.
    """
    if header.get(CHECKSUM, None) not in (None, _checksum(output.read_bytes())):
        raise ConfigError(
            f"{output} was changed after it was scored, so that its texts and scores may not belong together: score it again "
            "with --overwrite, or give another --output"
        )


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_scored(output: str | Path, header: dict[str, Any], kept: list[dict], dropped: list[dict]) -> ScoringReport:
    """Writes header, dropped rows and, last, the scored manifest.

    Args:
        output: path of the manifest.
        header: settings of the run, to which the outcome is added.
        kept: scored rows.
        dropped: rows with `dropped_because`, whose words before a colon are counted as the reason.
    """
    reasons = Counter(row['dropped_because'].split(':')[0] for row in dropped)
    report = ScoringReport(len(kept), dict(sorted(reasons.items())))
    text = manifest_text(kept)
    outcome = {'rows': report.rows, 'dropped': report.dropped, CHECKSUM: _checksum(text.encode('utf-8'))}
    write_text_atomically(header_path(output), json.dumps({**header, **outcome}, indent=2, ensure_ascii=False) + '\n')
    if dropped:
        write_text_atomically(dropped_path(output), manifest_text(dropped))
    else:
        dropped_path(output).unlink(missing_ok=True)  # may be left from an earlier run
    write_text_atomically(output, text)
    return report


def parts_of(output: str | Path) -> list[Path]:
    """Returns the parts beside a scored manifest, in order.

    Raises:
        ConfigError: there is no part.
    """
    output = Path(output)
    pattern = re.compile(re.escape(output.name) + r'\.(\d+)-of-(\d+)')
    found = [(match, path) for path in output.parent.glob('*') if (match := pattern.fullmatch(path.name))]
    if not found:
        raise ConfigError(f"there are no parts {output}.0-of-N to join: name them after the output")
    return [path for _, path in sorted(found, key=lambda entry: (int(entry[0][2]), int(entry[0][1])))]


def merge_parts(output: str | Path, parts: Sequence[str | Path]) -> ScoringReport:
    """Joins the finished parts of one run into one manifest with one header; the parts are kept.

    Args:
        output: path of the manifest; an existing file is replaced.
        parts: paths of the parts, in any order.

    Raises:
        ConfigError: a part is missing, given twice, unfinished or changed, or belongs to another run.
    """
    parts = [Path(part) for part in parts]
    headers = [_part_header(part) for part in parts]
    numbered = [
        Part(part, *header['shard'], {k: v for k, v in header.items() if k not in (*OUTCOME, 'shard')})
        for part, header in zip(parts, headers)
    ]
    ordered = [part.path for part in parts_in_order(numbered, 'score it with --shards {count} --shard {number}')]
    kept, dropped = ([row for part in ordered for row in _rows(of(part))] for of in (Path, dropped_path))
    return write_scored(output, {**headers[0], 'shard': [0, 1]}, kept, dropped)


def _part_header(part: Path) -> dict[str, Any]:
    if journal_path(part).exists():
        raise ConfigError(f"{part} is not finished: repeat the command that scores it")
    if not part.is_file():
        raise ConfigError(f"there is no part {part}: score it, or name the parts after the output")
    header = read_header(part)
    if header is None or not isinstance(header.get('shard'), list):
        raise ConfigError(f"{part} has no header {header_path(part)}: copy it from where the part was scored")
    refuse_changed(part, header)
    return header


def _rows(path: Path) -> Sequence[dict[str, Any]]:
    # a part may be empty, because every row of it was dropped; its paths stay as they were written, also those in archives
    return read_manifest(path, require_text=False, archived=True) if path.exists() and path.stat().st_size else []


def remove_part(part: Path) -> None:
    """Removes a part with its header and dropped rows."""
    for path in (part, header_path(part), dropped_path(part)):
        path.unlink(missing_ok=True)
