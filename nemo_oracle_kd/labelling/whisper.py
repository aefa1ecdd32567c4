# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Labels speech with a Whisper model through faster-whisper, which is an extra of this package (`[whisper]`).

faster-whisper gives one text per utterance, the best of its beam, with `avg_logprob`: the sum of the log-probabilities of the text's
tokens and of the end token, divided by the number of tokens plus one. The sum is taken back from it. It is the score of the text
as Whisper writes it, with capitals and punctuation, and not of the normalised text that the student learns.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import fingerprint_of
from nemo_oracle_kd.labelling.normalisation import Normaliser
from nemo_oracle_kd.labelling.scorer import NOT_WRITABLE, Scorer, ScoringSettings
from nemo_oracle_kd.labelling.whisper_segments import text_of_segments

__all__ = ['BEAM_SIZE', 'WHISPER', 'WhisperScorer', 'check_whisper', 'is_whisper', 'spoken']

#: begins the name of such a teacher: `whisper:FOLDER` or `whisper:NAME`
WHISPER = 'whisper:'
#: faster-whisper's own default
BEAM_SIZE = 5
#: what Whisper hears at a time, seconds
WINDOW = 30.0
RATE = 16000
NO_WORDS = 'no words in what Whisper wrote'

_FILES = ('model.bin', 'config.json', 'tokenizer.json')
_SCORES = (
    'avg_logprob * (tokens + 1) of faster-whisper, summed over windows of 30 s: natural log of P(tokens of the text, end token | audio, '
    'prompt) for the text before normalisation, among the tokens that the search admits; `teacher_tokens` leaves out the end token'
)


def is_whisper(source: str | None) -> bool:
    """Whether the name of a teacher means a Whisper model."""
    return source is not None and source.startswith(WHISPER)


def check_whisper(source: str) -> None:
    """Refuses what cannot be a Whisper model, before anything slow starts.

    Raises:
        ConfigError: faster-whisper is not installed, or the folder is not that of a Whisper model in CTranslate2's format.
    """
    try:
        version('faster-whisper')
    except ImportError:
        raise ConfigError(
            f"a teacher {WHISPER}... needs faster-whisper: install it with `pip install 'nemo_oracle_kd[whisper]'`"
        ) from None
    name = source.removeprefix(WHISPER)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        missing = [file for file in _FILES if not (folder / file).is_file()]
        if missing:
            raise ConfigError(
                f"{name} holds no {' and no '.join(missing)}: give the folder of a Whisper model in CTranslate2's format"
            )
    elif not name or folder.exists() or name.startswith(('/', '.', '~')) or name.count('/') > 1:
        raise ConfigError(
            f"there is no folder {name!r}: give that of a Whisper model in CTranslate2's format, or a name"
        )


def model_folder(source: str) -> Path:
    """The folder of a model; one that is known by its name is taken from the cache, or downloaded.

    Raises:
        ConfigError: it cannot be had.
    """
    from faster_whisper.utils import download_model

    check_whisper(source)
    name = source.removeprefix(WHISPER)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    for offline in (True, False):
        try:
            return Path(download_model(name, local_files_only=offline))
        except Exception as error:  # every way of downloading raises errors of its own
            reason = _first_line(error)
    raise ConfigError(
        f"the Whisper model {name!r} is not on this machine and could not be fetched ({reason}): give the path of its folder, or "
        "check the name and the network"
    )


class WhisperScorer(Scorer):
    """A Whisper model that labels.

    If the alphabet of the student has no digits, tokens with digits are left out of the search, so that Whisper writes numbers as words.
    It decodes at temperature 0 without falling back to sampling, so that a run gives the same bytes again and the score is
    `log P(y|x)`; a loop is left for a filter to find by its compression ratio. Utterances of up to 30 s are decoded in batches;
    a longer one is cut at pauses by faster-whisper's voice activity detection.

    Attributes:
        pipeline: faster-whisper's batched pipeline.
        options: of its `transcribe`.

    Args:
        source: `whisper:FOLDER` or `whisper:NAME`.
        settings: how texts are found; `prompt` may state `language` and `task`.
        normaliser: brings the texts into the student's alphabet.
        device: `cpu`, `cuda` or `cuda:N`.

    Raises:
        ConfigError: the model cannot be had, or cannot do what the settings ask for.
    """

    sample_rate = RATE

    def __init__(self, source: str, settings: ScoringSettings, normaliser: Normaliser, device: str = 'cpu'):
        _check_settings(settings)
        folder = model_folder(source)
        from faster_whisper import BatchedInferencePipeline, WhisperModel

        kind, _, index = device.partition(':')
        try:
            model = WhisperModel(str(folder), device=kind, device_index=int(index or 0))
        except Exception as error:  # of CTranslate2, of the tokenizer and of JSON
            raise ConfigError(
                f"{folder} cannot be loaded as a Whisper model ({_first_line(error)}): copy, convert or download it again"
            ) from error
        self.settings, self.normaliser = settings, normaliser
        self.pipeline = BatchedInferencePipeline(model)
        said = spoken(settings.prompt, model.supported_languages)
        options = {**said, 'beam_size': settings.beam_size, 'temperature': 0.0, 'without_timestamps': True}
        digits = normaliser.alphabet is None or any(letter.isdigit() for letter in normaliser.alphabet.letters)
        self.decoding = {
            'source': 'decode',
            'strategy': f"faster-whisper {version('faster-whisper')}",
            **options,
            'nbest': 1,
            'numerals': 'digits' if digits else 'words',
            'normalisation': normaliser.description,
        }
        # -1 stands for what faster-whisper always leaves out: symbols that nobody speaks
        self.options = {**options, 'suppress_tokens': [-1] if digits else [-1, *_numerals(model.hf_tokenizer)]}
        identity, vocabulary = _digest(folder, _FILES[:2]), _digest(folder, _FILES[2:])
        self.teacher = {
            'class': 'Whisper',
            'identity': identity,
            'head': 'attention',
            'vocabulary': vocabulary,
            'vocabulary_size': model.hf_tokenizer.get_vocab_size(),
            'sample_rate': RATE,
            'prompt': said,
            'scores': _SCORES,
        }
        self.fingerprint = fingerprint_of(identity, f'whisper {sorted(said.items())}', vocabulary, self.decoding)

    def check_writable(self, text: str, language: str | None = None) -> None:
        """No text is given to this teacher."""

    def score(self, rows: Sequence[Mapping[str, Any]], signals: Sequence[torch.Tensor]) -> list[dict[str, Any] | str]:
        """Labels a batch, as described at :meth:`Scorer.score`."""
        found: dict[int, list[Any]] = {}
        short = [index for index, signal in enumerate(signals) if len(signal) <= WINDOW * RATE]
        if short:
            found.update(zip(short, self._decode([signals[index] for index in short])))
        for index in set(range(len(signals))) - set(short):
            segments, _ = self.pipeline.transcribe(signals[index].numpy(), vad_filter=True, **self.options)
            found[index] = list(segments)
        return [self._row(row, found[index]) for index, row in enumerate(rows)]

    def _decode(self, signals: Sequence[torch.Tensor]) -> list[list[Any]]:
        """The segments of each signal of at most 30 s, all in one batch."""
        # one recording in which each signal begins at a whole second, by which its segments are recognised
        clips, pieces, second = [], [], 0
        for signal in signals:
            seconds = len(signal) // RATE + 1
            pieces.append(torch.nn.functional.pad(signal, (0, seconds * RATE - len(signal))))
            # half a sample more, because faster-whisper rounds down
            clips.append({'start': float(second), 'end': second + (len(signal) + 0.5) / RATE})
            second += seconds
        segments, _ = self.pipeline.transcribe(
            torch.cat(pieces).numpy(),
            clip_timestamps=clips,
            vad_filter=False,
            batch_size=len(clips),
            **self.options,
        )
        frames = self.pipeline.model.frames_per_second
        found: dict[int, list[Any]] = {int(clip['start']): [] for clip in clips}
        for segment in segments:
            found[segment.seek // frames].append(segment)
        return list(found.values())

    def _row(self, row: Mapping[str, Any], segments: Sequence[Any]) -> dict[str, Any] | str:
        raw, values, fields = text_of_segments([asdict(segment) for segment in segments])
        text = self.normaliser(raw)
        if not values['tokens'] or not text:  # faster-whisper gives 0 as the score of a window without tokens
            return NO_WORDS
        alphabet = self.normaliser.alphabet
        if alphabet is not None and not alphabet.can_write(text):
            return f'{NOT_WRITABLE}: {text}'
        return self.make_row(row, [(text, values['log_prob'], values['tokens'])], fields)


def _check_settings(settings: ScoringSettings) -> None:
    problems = []
    if settings.source != 'decode':
        problems.append(
            "faster-whisper scores no given text: leave --reference and --rescore out, or use a NeMo model"
        )
    if settings.nbest != 1:
        problems.append("faster-whisper gives one text per utterance: leave --nbest out, or use a NeMo model")
    for name in ('head', 'kernel'):
        if getattr(settings, name) != 'auto':
            problems.append(f"--{name} belongs to NeMo's CTC and transducer models: leave it out")
    ConfigError.raise_if_any(problems)


def spoken(prompt: Mapping[str, str], languages: Sequence[str]) -> dict[str, str]:
    """Language and task of the prompt.

    Args:
        prompt: what the user stated.
        languages: those that the model knows.

    Raises:
        ConfigError: the language is not stated or not known, or a slot or task does not exist.
    """
    unknown = [slot for slot in prompt if slot not in ('language', 'task')]
    language = prompt.get('language') or (languages[0] if len(languages) == 1 else None)
    task = prompt.get('task', 'transcribe')
    problems = [f"Whisper's prompt has no slot {slot!r}: state language and task" for slot in unknown]
    if language is None:
        problems.append(
            f"this Whisper model knows {len(languages)} languages: state the spoken one with --prompt language=en"
        )
    elif language not in languages:
        problems.append(
            f"this Whisper model does not know the language {language!r}: choose one of {', '.join(languages)}"
        )
    if task not in ('transcribe', 'translate'):
        problems.append(f"Whisper's task is transcribe or translate, not {task!r}: correct --prompt")
    ConfigError.raise_if_any(problems)
    return {'language': language, 'task': task}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip('.')


def _numerals(tokenizer: Any) -> list[int]:
    """Tokens of the text with a digit, or with a symbol that belongs to numbers."""
    end = tokenizer.token_to_id('<|endoftext|>')
    tokens = tokenizer.get_vocab().items()
    return sorted(index for token, index in tokens if index < end and any(c.isdigit() or c in '%$' for c in token))


def _digest(folder: Path, names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        with open(folder / name, 'rb') as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
