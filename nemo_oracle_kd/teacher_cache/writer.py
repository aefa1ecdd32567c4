# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Caches a teacher over a manifest: shard by shard, with a journal to resume from, and the index last.

A shard is made from its own rows alone, in batches of similar length, and appears whole or not at all. A run that was killed and is
started again therefore makes the missing shards and gives the same bytes.
"""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from nemo_oracle_kd.bridge.audio import audio_batch, read_audio
from nemo_oracle_kd.bridge.encode import encode_audio
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio, Transcripts
from nemo_oracle_kd.bridge.vocabulary import TextCodec
from nemo_oracle_kd.corpus.manifest import AUDIO_KEY
from nemo_oracle_kd.corpus.outputs import write_bytes_atomically, write_text_atomically
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.functional import fill_padding
from nemo_oracle_kd.labelling.journal import Journal, first_difference
from nemo_oracle_kd.labelling.sources import SpeechSource, manifest_source
from nemo_oracle_kd.teacher_cache.encoder_signal import EncoderSignal, JointOfCache
from nemo_oracle_kd.teacher_cache.folder import JOURNAL_NAME, cache_files, clear_temporaries
from nemo_oracle_kd.teacher_cache.index import (
    INDEX_NAME,
    CacheIndex,
    CacheOptions,
    ShardRecord,
    file_checksum,
    teacher_facts,
)
from nemo_oracle_kd.teacher_cache.plan import (
    SHARD_UTTERANCES,
    CachePlan,
    PlannedUtterance,
    make_plan,
    manifest_facts,
)
from nemo_oracle_kd.teacher_cache.registry import signal_of
from nemo_oracle_kd.teacher_cache.shards import Utterance, shard_bytes
from nemo_oracle_kd.teacher_cache.signals import PADDING, CachedSignal, Measured

__all__ = ['CacheReport', 'RunOptions', 'prepare_cache', 'write_cache']


@dataclass(frozen=True)
class RunOptions:
    """How a manifest is cached.

    Attributes:
        batch_size: utterances that the teacher hears at a time.
        part: number and count of the contiguous parts of the manifest.
        shard_rows: manifest rows per file.
    """

    batch_size: int = 8
    part: tuple[int, int] = (0, 1)
    shard_rows: int = SHARD_UTTERANCES


def prepare_cache(
    model: Any, manifest: str | Path | SpeechSource, options: CacheOptions, run: RunOptions = RunOptions()
) -> tuple[CacheIndex, CachedSignal, CachePlan]:
    """Reads a manifest and says what :func:`write_cache` will do; nothing is written.

    Args:
        model: the teacher, in eval mode.
        manifest: of the training data, or speech from elsewhere.
        options: from `choose_options`.
        run: how the manifest is cached.

    Returns:
        The index without shards, the signal, and the plan.

    Raises:
        ConfigError: rows that cannot be told apart or written in the teacher's labels, or that lack a duration.
        ValueError: a manifest that cannot be used.
    """
    index = CacheIndex(options, teacher_facts(model), {}, run.batch_size)
    signal = signal_of(index)
    reads_text = signal.reads_text or index.description.reads_transcript
    codec = TextCodec(model, index.description.vocabulary) if reads_text else None
    source = manifest if isinstance(manifest, SpeechSource) else manifest_source(manifest, codec is not None)
    plan = make_plan(source, signal, codec, index.description.frame_seconds, run.part, run.shard_rows)
    index.manifest = manifest_facts(source, plan, run.part, run.shard_rows)
    return index, signal, plan


@dataclass(frozen=True)
class CacheReport:
    """The outcome of a run.

    Attributes:
        index: as it was written.
        made: number of utterances of this start of the run.
    """

    index: CacheIndex
    made: int


def write_cache(
    model: Any, index: CacheIndex, signal: CachedSignal, plan: CachePlan, folder: Path, overwrite: bool = False
) -> CacheReport:
    """Writes a cache, or what is missing of it.

    Args:
        model: the teacher, in eval mode.
        index: without shards.
        signal: what is kept.
        plan: what goes into which shard.
        folder: where; see `check_folder`.
        overwrite: whether another cache in the folder is replaced.

    Raises:
        ConfigError: the folder belongs to another run, there is no room, audio that cannot be heard, or a teacher that gives no
            numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite:
        for path in cache_files(folder):
            path.unlink()
    finished = _finished(folder, index)
    journal = Journal(folder / JOURNAL_NAME, index.header())
    try:
        clear_temporaries(folder)
        entries = {record['first']: record for record in map(asdict, finished.shards)} if finished is not None else {}
        entries |= dict(journal.entries)
        records = {first: ShardRecord(**values) for first, values in entries.items() if _is_there(folder, values)}
        missing = [first for first in plan.shards if first not in records]
        _check_room(folder, plan, len(missing))
        made = 0
        with tqdm(total=plan.utterances, desc='caching', unit='utt') as bar:
            bar.update(sum(record.utterances for record in records.values()))
            for first in missing:
                utterances = plan.shards[first]
                records[first] = _write_shard(model, index, signal, folder, (first, utterances), bar)
                journal.add([(first, asdict(records[first]))])
                made += len(utterances)
        index.shards = [records[first] for first in plan.shards]
        if isinstance(signal, EncoderSignal):
            index.joint = _write_joint(model, folder)
        write_text_atomically(folder / INDEX_NAME, index.text())
        journal.remove()
    finally:
        journal.close()
    return CacheReport(index, made)


def _finished(folder: Path, index: CacheIndex) -> CacheIndex | None:
    """The index of the same run, if it has finished before."""
    if not (folder / INDEX_NAME).exists():
        return None
    before = CacheIndex.read(folder)
    difference = first_difference(before.header(), index.header())
    if difference:
        raise ConfigError(
            f"{folder} holds a cache of another run ({difference[:300]}): give another folder, or use --overwrite to replace it"
        )
    return before


def _is_there(folder: Path, record: dict[str, Any]) -> bool:
    path = folder / record['file']
    return path.is_file() and path.stat().st_size == record['size']


def _check_room(folder: Path, plan: CachePlan, missing: int) -> None:
    needed = plan.nbytes * missing // max(len(plan.shards), 1)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"the cache will need about {needed / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB left: free some space, give a folder on "
            "another disk, or choose a smaller signal"
        )


def _write_shard(
    model: Any,
    index: CacheIndex,
    signal: CachedSignal,
    folder: Path,
    shard: tuple[int, Sequence[PlannedUtterance]],
    bar: Any,
) -> ShardRecord:
    first, utterances = shard
    # similar lengths in a batch need little padding; the order does not depend on what was done before
    order = sorted(range(len(utterances)), key=lambda place: (-utterances[place].row['duration'], place))
    made: dict[int, Utterance] = {}
    sums: dict[str, list[float]] = {}
    for start in range(0, len(order), index.batch_size):
        places = order[start : start + index.batch_size]
        found, measured = _hear(model, signal, [utterances[place] for place in places])
        made.update(zip(places, found))
        if start == 0:
            measured = {**measured, **_padding(model, [utterances[place] for place in places], signal)}
        for name, values in measured.items():
            entry = sums.setdefault(name, [0.0, 0.0, 0.0])
            values = values.double()
            largest = float(values.max()) if values.numel() else 0.0
            entry[:] = [entry[0] + float(values.sum()), entry[1] + values.numel(), max(entry[2], largest)]
        bar.update(len(places))
    content = shard_bytes([made[place] for place in range(len(utterances))], signal.fields)
    name = f'shard-{first // index.manifest["shard_rows"]:05d}.safetensors'
    write_bytes_atomically(folder / name, content)
    return ShardRecord(name, _sha256(content), len(content), len(utterances), first, sums)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@torch.inference_mode()
def _hear(
    model: Any, signal: CachedSignal, utterances: Sequence[PlannedUtterance]
) -> tuple[list[Utterance], Measured]:
    """What is kept of one batch."""
    batch = _batch(model, utterances)
    audio = encode_audio(model, batch)
    _refuse_nan(audio, utterances)
    records, measured = signal.record(model, audio, batch.transcripts)
    counts = audio.lengths.tolist()
    return [
        Utterance(one.key, frames, len(one.labels), one.label_sum, record)
        for one, frames, record in zip(utterances, counts, records)
    ], measured


def _batch(model: Any, utterances: Sequence[PlannedUtterance]) -> AudioBatch:
    """Audio and labels, on the device of the model."""
    rate = int(model.cfg.get('sample_rate', model.cfg.preprocessor.get('sample_rate', 16000)))
    try:
        waves = [read_audio(one.span, rate) for one in utterances]
    except ValueError as error:
        raise ConfigError(f"{error}; what was cached before is kept, so mend it and repeat the command") from None
    batch = audio_batch(waves, next(model.parameters()).device)
    labels = [torch.tensor(one.labels, dtype=torch.long) for one in utterances]
    lengths = torch.tensor([len(one) for one in labels])
    padded = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True)
    transcripts = Transcripts(padded.to(batch.signal.device), lengths.to(batch.signal.device))
    return AudioBatch(batch.signal, batch.lengths, transcripts)


@torch.inference_mode()
def _padding(model: Any, utterances: Sequence[PlannedUtterance], signal: CachedSignal) -> Measured:
    """How much of what the teacher says of an utterance depends on the padding of the batch that it is heard in, per frame."""
    batch = _batch(model, utterances)
    together = encode_audio(model, batch)
    found = []
    for row in range(len(utterances)):
        alone, length = encode_audio(model, batch.select([row])), int(together.lengths[row])
        if signal.head == 'ctc':
            one, other = alone.posteriors[0, :length].exp(), together.posteriors[row, :length].exp()
            found.append((one - other).abs().sum(1).cpu())
        else:
            one, other = alone.encoded[0, :, :length], together.encoded[row, :, :length]
            found.append(((one - other).norm(dim=0) / other.norm(dim=0).clamp(min=1e-6)).cpu())
    return {PADDING: torch.cat(found)}


def _refuse_nan(audio: EncodedAudio, utterances: Sequence[PlannedUtterance]) -> None:
    for frames in (audio.log_probs, None if audio.encoded is None else audio.encoded.transpose(1, 2)):
        if frames is None:
            continue
        broken = fill_padding(frames, audio.lengths).isnan().flatten(1).any(1)
        if bool(broken.any()):
            row = utterances[int(broken.nonzero()[0])].row
            raise ConfigError(
                f"the teacher gives NaN for {row[AUDIO_KEY]}: its weights are damaged or its training diverged, so use another checkpoint"
            )


def _write_joint(model: Any, folder: Path) -> ShardRecord:
    from safetensors.torch import save

    path = folder / JointOfCache.FILE
    write_bytes_atomically(path, save(JointOfCache.of_model(model)))
    return ShardRecord(path.name, file_checksum(path), path.stat().st_size, 0, 0)
