# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""NeMo models as scorers: they find the texts, tokenise them, and score them by full sum or by teacher forcing."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from nemo_oracle_kd.bridge.attention import attention_strategy, make_attention_search, score_attention
from nemo_oracle_kd.bridge.attention_prompt import AttentionPrompt, is_attention_model
from nemo_oracle_kd.bridge.audio import audio_batch
from nemo_oracle_kd.bridge.decoding import decoding_strategy, make_nbest_decoder
from nemo_oracle_kd.bridge.encode import encode_audio
from nemo_oracle_kd.bridge.model import find_head, frame_seconds
from nemo_oracle_kd.bridge.sequence_scores import Hypotheses, score_encoded, score_labels
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio
from nemo_oracle_kd.bridge.vocabulary import TextCodec, UnwritableText
from nemo_oracle_kd.corpus.manifest import LANGUAGE_KEY
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import fingerprint_of, teacher_identity
from nemo_oracle_kd.labelling.scorer import Scorer, ScoringSettings

__all__ = ['AttentionScorer', 'LatticeScorer', 'ModelScorer', 'model_scorer']


def model_scorer(model: Any, settings: ScoringSettings) -> 'ModelScorer':
    """The scorer for a kind of NeMo model.

    Args:
        model: a NeMo model in eval mode.
        settings: how texts are found and scored.

    Raises:
        ValueError: the model cannot do what the settings ask for.
    """
    return (AttentionScorer if is_attention_model(model) else LatticeScorer)(model, settings)


class ModelScorer(Scorer):
    """A NeMo model that scores.

    Args:
        model: a NeMo model in eval mode.
        settings: how texts are found and scored.
        head: what scores: `ctc`, a kind of transducer, or `attention`.
        codec: of the labels.
        vocabulary_size: number of labels.
        condition: what the probability is conditioned on besides the audio; another condition is another teacher.
    """

    def __init__(
        self,
        model: Any,
        settings: ScoringSettings,
        head: str,
        codec: TextCodec | AttentionPrompt,
        vocabulary_size: int,
        condition: str = '',
    ):
        self.model, self.settings, self.codec = model, settings, codec
        self.sample_rate = int(model.cfg.get('sample_rate', model.cfg.preprocessor.get('sample_rate', 16000)))
        self.device = next(model.parameters()).device
        self.decoding: dict[str, Any] = {'source': settings.source}
        self._search: Callable[[EncodedAudio], list[list[str]]] | None = None
        if settings.source == 'decode':
            beam = settings.beam_size or settings.nbest
            facts, self._search = self.make_search(beam)
            self.decoding.update(strategy=facts.pop('strategy'), beam_size=beam, nbest=settings.nbest, **facts)
        self.identity = teacher_identity(model)
        self.teacher = {
            'class': type(model).__name__,
            'identity': self.identity,
            'head': head,
            'vocabulary': codec.fingerprint,
            'vocabulary_size': vocabulary_size,
            'sample_rate': self.sample_rate,
            'frame_seconds': frame_seconds(model),
        }
        self.fingerprint = fingerprint_of(self.identity, head + condition, codec.fingerprint, self.decoding)

    @abstractmethod
    def make_search(self, beam: int) -> tuple[dict[str, Any], Callable[[EncodedAudio], list[list[str]]]]:
        """The settings of a search for texts with their `strategy`, and the search."""

    @abstractmethod
    def score_texts(self, batch: AudioBatch, audio: EncodedAudio | None, hypotheses: Hypotheses) -> torch.Tensor:
        """`[B, N]` log-probabilities; `audio` is the encoded batch where it was encoded to find texts."""

    def check_writable(self, text: str, language: str | None = None) -> None:
        """Refuses a given text whose score would be that of another text.

        Raises:
            UnwritableText: the labels cannot express it, or it is empty and the model has to read it.
        """
        self.codec.encode(text, language)
        if not text and getattr(self.model, 'reads_transcript', False):
            raise UnwritableText("an oracle model reads the transcript, so it cannot score an empty one")

    def score(self, rows: Sequence[Mapping[str, Any]], signals: Sequence[torch.Tensor]) -> list[dict[str, Any] | str]:
        """Scores a batch, as described at :meth:`Scorer.score`."""
        with torch.inference_mode():
            batch = audio_batch(signals, self.device)
            audio = None if self._search is None else encode_audio(self.model, batch)
            texts = [self.given_texts(row) for row in rows] if self._search is None else self._search(audio)
            writable = [self._writable(of_one, row.get(LANGUAGE_KEY)) for of_one, row in zip(texts, rows)]
            hypotheses = Hypotheses.from_lists([list(of_one.values()) for of_one in writable], self.device)
            scores = self.score_texts(batch, audio, hypotheses).tolist()
        return [
            self.make_row(row, [(text, value, len(labels)) for (text, labels), value in zip(of_one.items(), values)])
            for row, of_one, values in zip(rows, writable, scores)
        ]

    def _writable(self, texts: Sequence[str], language: str | None) -> dict[str, list[int]]:
        """Text -> labels, without the texts that the teacher's labels cannot express (an unknown token, say)."""
        kept = {}
        for text in texts:
            try:
                kept[text] = self.codec.encode(text, language)
            except UnwritableText:
                continue
        return kept


class LatticeScorer(ModelScorer):
    """A NeMo model with a CTC or transducer head, which scores a text by the full sum over all alignments.

    Args:
        model: a NeMo model in eval mode.
        settings: how texts are found and scored.

    Raises:
        ValueError: the model cannot do what the settings ask for.
    """

    def __init__(self, model: Any, settings: ScoringSettings):
        self.head = find_head(model, settings.head)
        if settings.prompt:
            raise ConfigError(f"{type(model).__name__} reads no prompt: leave --prompt out")
        super().__init__(
            model,
            settings,
            self.head.kind,
            TextCodec(model, self.head.vocabulary),
            len(self.head.vocabulary),
        )

    def make_search(self, beam: int) -> tuple[dict[str, Any], Callable[[EncodedAudio], list[list[str]]]]:
        """NeMo's batched beam search for the head."""
        facts: dict[str, Any] = {'strategy': decoding_strategy(self.head, beam)}
        if self.head.transducer is not None:
            facts['max_symbols'] = self.settings.max_symbols
        nbest, symbols = self.settings.nbest, self.settings.max_symbols
        return facts, make_nbest_decoder(self.model, self.head, beam, nbest, symbols)

    def score_texts(self, batch: AudioBatch, audio: EncodedAudio | None, hypotheses: Hypotheses) -> torch.Tensor:
        """`[B, N]` full sums; an oracle reads each hypothesis."""
        limits = self.settings.max_cells, self.settings.kernel
        if audio is None:
            return score_labels(self.model, self.head, batch, hypotheses, *limits)
        return score_encoded(self.model, self.head, audio, hypotheses, *limits)


class AttentionScorer(ModelScorer):
    """A NeMo attention encoder-decoder (Canary), which scores a text by teacher forcing under a prompt.

    Args:
        model: an `EncDecMultiTaskModel` in eval mode.
        settings: how texts are found and scored.

    Raises:
        ValueError: the model cannot do what the settings ask for.
    """

    def __init__(self, model: Any, settings: ScoringSettings):
        name = type(model).__name__
        options = {'head': settings.head, 'kernel': settings.kernel}
        ConfigError.raise_if_any(
            f"--{option} {value} chooses among CTC and transducer heads, and {name} has an attention decoder: leave it out"
            for option, value in options.items()
            if value != 'auto'
        )
        self.prompt = AttentionPrompt(model, settings.prompt)
        size, condition = self.prompt.vocabulary_size, f' {self.prompt.context}'
        super().__init__(model, settings, 'attention', self.prompt, size, condition)
        self.teacher.update(
            prompt_format=model.prompt_format,
            prompt=self.prompt.slots,
            scores='log P(tokens of the text, end token | audio, prompt), natural log; `teacher_tokens` leaves out the end token',
        )

    def make_search(self, beam: int) -> tuple[dict[str, Any], Callable[[EncodedAudio], list[list[str]]]]:
        """NeMo's greedy or beam search."""
        search = make_attention_search(self.model, self.prompt, beam, self.settings.nbest)
        return {'strategy': attention_strategy(beam)}, search

    def score_texts(self, batch: AudioBatch, audio: EncodedAudio | None, hypotheses: Hypotheses) -> torch.Tensor:
        """`[B, N]` scores by teacher forcing."""
        audio = encode_audio(self.model, batch) if audio is None else audio
        return score_attention(self.model, self.prompt, audio, hypotheses, self.settings.max_cells)
