# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What every oracle teacher adds to a NeMo model (arXiv 2111.03664): the transcript, the audio branch, the staging.

The audio branch has a CTC head of its own, in a transducer too. The fusion reads from it which labels were heard in each
frame (self-conditioning). A lattice cannot tell that, because its cells depend on the labels before. A CTC head also saves
a second lattice per step. It has no prediction network either, so only the audio can make its loss small.
"""

import copy
from abc import abstractmethod
from typing import Any

import torch
from nemo.core.classes import Serialization, typecheck
from nemo.core.classes.common import PretrainedModelInfo
from nemo.core.classes.mixins import AccessMixin
from nemo.core.neural_types import LabelsType, LengthsType, NeuralType
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_oracle_kd.bridge.model import describe
from nemo_oracle_kd.distillation.data.checks import DataNeeds, check_training_data
from nemo_oracle_kd.distillation.self_teachers.start import Start
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.models.audio_initialisation import load_audio_branch
from nemo_oracle_kd.models.oracle_config import OracleConfig
from nemo_oracle_kd.models.oracle_listening import OracleListeningMixin
from nemo_oracle_kd.models.oracle_outputs import OracleBranches, WordErrors, timing_loss
from nemo_oracle_kd.models.oracle_staging import OracleStagingMixin
from nemo_oracle_kd.models.oracle_transcription import TRANSCRIPT_NEEDED, OracleTranscriptionMixin
from nemo_oracle_kd.modules.oracle_encoder import OracleEncoder
from nemo_oracle_kd.strict_config import build_or_raise

__all__ = ['OracleMixin']


class OracleMixin(OracleListeningMixin, OracleStagingMixin, OracleTranscriptionMixin):
    """Base of the mixins for the heads of oracle teachers. `model.oracle` configures it, see :class:`OracleConfig`.

    Raises:
        ConfigError: if the config has unknown keys or contradictions, or if the encoder is not an oracle encoder.
    """

    reads_transcript = True
    """Tells the distillation that `forward` needs the transcript."""

    def __init__(self, cfg: DictConfig, trainer: Any = None):
        section = OmegaConf.to_container(cfg.oracle, resolve=True) if cfg.get('oracle') is not None else None
        oracle = build_or_raise(OracleConfig, section, 'model.oracle')
        if cfg.get('interctc') is not None and cfg.interctc.get('apply_at_layers'):
            raise ConfigError(
                "`model.interctc` is not supported in an oracle teacher: remove the section and use model.oracle.audio_ctc_weight, "
                "the weight of the loss on the audio encoder"
            )
        super().__init__(cfg=cfg, trainer=trainer)
        if not isinstance(self.encoder, OracleEncoder):
            raise ConfigError(
                f"`model.encoder` is a {type(self.encoder).__name__}: use nemo_oracle_kd.modules.OracleEncoder, with your "
                f"{type(self.encoder).__name__} as its `audio_encoder`"
            )
        if self.encoder.self_conditioning and oracle.audio_ctc_weight == 0:
            raise ConfigError(
                "`model.encoder.self_conditioning` reads the posteriors of the audio branch: set model.oracle.audio_ctc_weight "
                "above 0 or model.encoder.self_conditioning=false"
            )
        self.oracle = oracle
        self._start = Start(oracle.start_below)
        self.encoder.label_corruption.config = oracle.label_corruption
        self.audio_decoder = None
        self._adapt_to_vocabulary(keep_embedding=True)

    @abstractmethod
    def _audio_decoder_section(self) -> DictConfig:
        """Config of the audio branch's CTC decoder, to which sizes and vocabulary are added."""

    @abstractmethod
    def _audio_criteria(self) -> tuple[Any, Any]:
        """NeMo's CTC loss and WER metric for the audio branch."""

    @abstractmethod
    def fused_posteriors(self, encoded: torch.Tensor) -> torch.Tensor | None:
        """Log-posteriors of frames, `[B, T, V + 1]`, from the output of the fusion, `[B, D, T]`; None for a transducer."""

    @abstractmethod
    def _as_nemo(self, branches: OracleBranches) -> tuple[torch.Tensor, ...]:
        """The outputs in the form in which `forward` of the NeMo class returns them."""

    @abstractmethod
    def _score_fused(
        self, branches: OracleBranches, batch: Any, with_loss: bool, with_errors: bool
    ) -> tuple[torch.Tensor | None, WordErrors | None]:
        """Loss and word errors of the fused branch; None for what is not requested."""

    @abstractmethod
    def _decode(self, branches: OracleBranches) -> list[Any]:
        """The result of each utterance in the form in which `predict_step` of the NeMo class returns it."""

    def _adapt_to_vocabulary(self, keep_embedding: bool = False) -> None:
        """Builds label embedding and audio decoder, which depend on the labels, and records them in the config."""
        num_labels = len(self.head_vocabulary)
        label_encoder = self.encoder.label_encoder
        if not keep_embedding or label_encoder is None or label_encoder.num_labels != num_labels:
            self.encoder.set_num_labels(num_labels)
        with open_dict(self._cfg):
            self._cfg.encoder.num_labels = num_labels
            if self.oracle.audio_ctc_weight > 0:
                audio_decoder = copy.deepcopy(self._cfg.get('audio_decoder') or self._audio_decoder_section())
                audio_decoder.feat_in = self.encoder.audio_feat_out
                audio_decoder.num_classes = num_labels
                audio_decoder.vocabulary = list(self.head_vocabulary)
                self._cfg.audio_decoder = audio_decoder
        if self.oracle.audio_ctc_weight > 0:
            device = next(self.encoder.parameters()).device
            self.audio_decoder = Serialization.from_config_dict(self._cfg.audio_decoder).to(device)

    def change_vocabulary(self, *args: Any, **kwargs: Any) -> None:
        """Changes the vocabulary as NeMo does; label embedding and audio decoder also start from random weights.

        The arguments are those of `change_vocabulary` of the NeMo class.
        """
        old = list(self.head_vocabulary)
        super().change_vocabulary(*args, **kwargs)
        if list(self.head_vocabulary) != old:
            self._adapt_to_vocabulary()

    def initialise_audio_encoder(self) -> None:
        """Loads the weights of `oracle.init_audio_encoder_from`, once. A fit calls this; restoring a model does not.

        Raises:
            ConfigError: if there is no such model, or if its features or shapes differ.
        """
        source = self.oracle.init_audio_encoder_from
        if not source:
            return
        load_audio_branch(self, source)
        # From here on the weights belong to this model. A copy restored from its .nemo must neither need nor reload the
        # source.
        self.oracle.init_audio_encoder_from, self.oracle.audio_encoder_initialised_from = None, source
        with open_dict(self._cfg):
            self._cfg.oracle.init_audio_encoder_from = None
            self._cfg.oracle.audio_encoder_initialised_from = source

    def setup(self, stage: str | None = None) -> None:
        """Checks the data, and loads and freezes the audio encoder if configured. Lightning calls this before it resumes.

        Raises:
            ConfigError: if a training manifest lacks a transcript or audio.
        """
        super().setup(stage)
        if stage == 'fit':
            # NeMo reads a row without `text` as an empty transcript, which would teach that "no text" means silence.
            needs = DataNeeds(filled_text=True)
            rate = describe(self).sample_rate
            check_training_data(self._cfg.get('train_ds'), needs, rate, audio=self.global_rank == 0)
            self.initialise_audio_encoder()
            if not self.oracle.audio_only_steps and (
                self.oracle.audio_encoder_initialised_from or self.oracle.start_below is None
            ):
                self.freeze_audio_if_asked(0)

    @property
    def input_types(self) -> dict[str, NeuralType]:
        return {
            **super().input_types,
            'transcript': NeuralType(('B', 'T'), LabelsType(), optional=True),
            'transcript_length': NeuralType(tuple('B'), LengthsType(), optional=True),
        }

    def audio_posteriors(self, audio: torch.Tensor) -> torch.Tensor | None:
        """Log-posteriors `[B, T, V + 1]` of the audio branch from the audio encoder's `[B, D, T]`; None without audio branch."""
        return self.audio_decoder(encoder_output=audio) if self.audio_decoder is not None else None

    def forward_branches(
        self,
        input_signal: torch.Tensor | None = None,
        input_signal_length: torch.Tensor | None = None,
        processed_signal: torch.Tensor | None = None,
        processed_signal_length: torch.Tensor | None = None,
        transcript: torch.Tensor | None = None,
        transcript_length: torch.Tensor | None = None,
        return_attention: bool = False,
    ) -> OracleBranches:
        """Computes both branches from one run of the audio encoder.

        Args:
            input_signal: waveforms, `[B, S]`.
            input_signal_length: `[B]`.
            processed_signal: features `[B, F, T]` instead of waveforms.
            processed_signal_length: `[B]`.
            transcript: label ids, `[B, U]`; None for the audio branch alone.
            transcript_length: `[B]`; 0 means "no text".
            return_attention: whether to return the cross-attention weights too.

        Raises:
            ValueError: if there is neither a signal nor features, or if there are both.
        """
        has_waveform = input_signal is not None and input_signal_length is not None
        has_features = processed_signal is not None and processed_signal_length is not None
        if has_waveform == has_features:
            raise ValueError(
                "the model got both waveforms and features, or neither: pass either input_signal or processed_signal, with its length"
            )
        if has_waveform:
            processed_signal, processed_signal_length = self.preprocessor(
                input_signal=input_signal, length=input_signal_length
            )
        if self.spec_augmentation is not None and self.training:
            processed_signal = self.spec_augmentation(input_spec=processed_signal, length=processed_signal_length)
        audio, lengths = self.encoder.encode_audio(processed_signal, processed_signal_length)
        audio_log_probs = self.audio_posteriors(audio)
        if transcript is None:
            return OracleBranches(None, audio_log_probs, lengths, [], None)
        encoded, attention = self.encoder.fuse(
            audio, lengths, transcript, transcript_length, audio_log_probs, return_attention
        )
        return OracleBranches(self.fused_posteriors(encoded), audio_log_probs, lengths, attention, encoded)

    @typecheck()
    def forward(
        self,
        input_signal: torch.Tensor | None = None,
        input_signal_length: torch.Tensor | None = None,
        processed_signal: torch.Tensor | None = None,
        processed_signal_length: torch.Tensor | None = None,
        transcript: torch.Tensor | None = None,
        transcript_length: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Computes the outputs of the NeMo class from audio and transcript. Arguments as in :meth:`forward_branches`.

        Returns:
            For CTC: log-posteriors `[B, T, V + 1]`, lengths `[B]` and greedy labels `[B, T]`. For a transducer: the output of
            the fusion, `[B, D, T]`, and lengths `[B]`.

        Raises:
            ValueError: if there is no transcript.
        """
        if transcript is None or transcript_length is None:
            raise ValueError(TRANSCRIPT_NEEDED)
        return self._as_nemo(
            self.forward_branches(
                input_signal=input_signal,
                input_signal_length=input_signal_length,
                processed_signal=processed_signal,
                processed_signal_length=processed_signal_length,
                transcript=transcript,
                transcript_length=transcript_length,
            )
        )

    def _forward_batch(self, batch: Any, with_text: bool = True) -> OracleBranches:
        signal, signal_length, transcript, transcript_length = batch
        names = ('input_signal', 'input_signal_length')
        if getattr(batch, 'has_processed_signal', False):  # NeMo's DALI loaders yield features
            names = ('processed_signal', 'processed_signal_length')
        inputs = {names[0]: signal, names[1]: signal_length}
        if with_text:
            inputs.update(transcript=transcript, transcript_length=transcript_length)
        return self.forward_branches(**inputs)

    @staticmethod
    def _ctc(loss: Any, log_probs: torch.Tensor, lengths: torch.Tensor, batch: Any) -> torch.Tensor:
        return loss(log_probs=log_probs, targets=batch[2], input_lengths=lengths, target_lengths=batch[3])

    @staticmethod
    def _word_errors(metric: Any, predictions: torch.Tensor, lengths: torch.Tensor, batch: Any) -> WordErrors:
        """Word errors by NeMo's metric, from the predictions that its decoding reads."""
        metric.update(predictions=predictions, predictions_lengths=lengths, targets=batch[2], targets_lengths=batch[3])
        result = metric.compute()
        metric.reset()
        return result

    def _score_audio(
        self, branches: OracleBranches, batch: Any, with_errors: bool
    ) -> tuple[torch.Tensor, WordErrors | None]:
        loss, metric = self._audio_criteria()
        log_probs, lengths = branches.audio_log_probs, branches.lengths
        errors = self._word_errors(metric, log_probs, lengths, batch) if with_errors else None
        return self._ctc(loss, log_probs, lengths, batch), errors

    def training_step(self, batch: Any, batch_nb: int) -> dict[str, Any]:
        if AccessMixin.is_access_enabled(self.model_guid):
            AccessMixin.reset_registry(self)
        step = self.trainer.global_step
        audio_only = not self.reads_at(step)
        if not audio_only:
            self.freeze_audio_if_asked(step)

        # Distributed training needs a gradient for every parameter, even while the fused branch is not trained yet.
        with_text = not audio_only or self.trainer.world_size > 1
        branches = self._forward_batch(batch, with_text=with_text)
        with_errors = (batch_nb + 1) % self.trainer.log_every_n_steps == 0
        logs = {}
        loss = 0.0
        if branches.encoded is not None:
            fused, errors = self._score_fused(branches, batch, True, with_errors)
            logs['train_loss_fused'] = fused.detach()
            loss = fused * (0.0 if audio_only else 1.0)
            if errors is not None:
                logs['training_batch_wer'] = errors[0]
        if branches.audio_log_probs is not None:
            audio, errors = self._score_audio(branches, batch, with_errors)
            logs['train_loss_audio'] = audio.detach()
            loss = loss + audio * (1.0 if audio_only else self.oracle.audio_ctc_weight)
            logs.update(self.follow_audio(branches, batch, step))
            if errors is not None:
                logs['training_batch_wer_audio'] = errors[0]
        if self.oracle.timing_weight > 0 and branches.log_probs is not None:
            timing = timing_loss(branches, batch[2], batch[3])
            logs['train_loss_timing'] = timing.detach()
            loss = loss + timing * (0.0 if audio_only else self.oracle.timing_weight)
        loss = self.add_auxiliary_losses(loss)
        if AccessMixin.is_access_enabled(self.model_guid):
            AccessMixin.reset_registry(self)
        logs['train_loss'] = loss.detach()
        logs['learning_rate'] = self._optimizer.param_groups[0]['lr']
        logs['global_step'] = torch.tensor(step, dtype=torch.float32)
        return {'loss': loss, 'log': logs}

    def validation_pass(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, torch.Tensor]:
        branches = self._forward_batch(batch)
        with_loss = getattr(self, 'compute_eval_loss', True)  # an option of NeMo's transducers
        loss, (wer, errors, words) = self._score_fused(branches, batch, with_loss, with_errors=True)
        metrics = {'val_loss': loss} if with_loss else {}
        metrics.update(val_wer=wer, val_wer_num=errors, val_wer_denom=words)
        if branches.audio_log_probs is not None:
            metrics['val_loss_audio'], (_, errors, words) = self._score_audio(branches, batch, True)
            metrics['val_wer_audio_num'], metrics['val_wer_audio_denom'] = errors, words
        self.log('global_step', torch.tensor(self.trainer.global_step, dtype=torch.float32))
        return metrics

    def _add_audio_metrics(self, metrics: dict[str, Any], outputs: list[dict], prefix: str) -> dict[str, Any]:
        if outputs and f'{prefix}wer_audio_num' in outputs[0]:
            errors = torch.stack([o[f'{prefix}wer_audio_num'] for o in outputs]).sum()
            words = torch.stack([o[f'{prefix}wer_audio_denom'] for o in outputs]).sum()
            metrics['log'][f'{prefix}wer_audio'] = errors / words
            metrics['log'][f'{prefix}loss_audio'] = torch.stack([o[f'{prefix}loss_audio'] for o in outputs]).mean()
        return metrics

    def multi_validation_epoch_end(self, outputs: list[dict], dataloader_idx: int = 0) -> dict[str, Any]:
        return self._add_audio_metrics(super().multi_validation_epoch_end(outputs, dataloader_idx), outputs, 'val_')

    def multi_test_epoch_end(self, outputs: list[dict], dataloader_idx: int = 0) -> dict[str, Any]:
        return self._add_audio_metrics(super().multi_test_epoch_end(outputs, dataloader_idx), outputs, 'test_')

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> list[tuple[Any, Any]]:
        sample_id = batch[4]
        answers = self._decode(self._forward_batch(batch[:4]))
        if isinstance(sample_id, torch.Tensor):
            sample_id = sample_id.cpu().detach().numpy()
        return list(zip(sample_id, answers))

    @classmethod
    def list_available_models(cls) -> list[PretrainedModelInfo]:
        """An empty list. With NeMo's list `ASRModel.from_pretrained` would build this class for NeMo's models."""
        return []
