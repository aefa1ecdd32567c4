# Copyright (c) 2026, the nemo_oracle_kd authors.  All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Oracle teachers: CTC models that read the audio *and* the transcript (arXiv 2111.03664).

They are trained, logged, checkpointed and saved like NeMo's own CTC models. Their posteriors are the teaching material
of a student; they are no recognisers, since without the transcript they know no more than their audio branch.
"""

import copy
from typing import Any, NamedTuple

import torch
from nemo.collections.asr.data.audio_to_text_dali import DALIOutputs
from nemo.collections.asr.models.ctc_bpe_models import EncDecCTCModelBPE
from nemo.collections.asr.models.ctc_models import EncDecCTCModel
from nemo.core.classes import typecheck
from nemo.core.classes.common import PretrainedModelInfo
from nemo.core.classes.mixins import AccessMixin
from nemo.core.neural_types import LabelsType, LengthsType, NeuralType
from nemo.utils import logging
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_oracle_kd.bridge.describe import describe
from nemo_oracle_kd.distillation.training_data import check_training_data
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.models.audio_initialisation import load_audio_branch
from nemo_oracle_kd.models.oracle_config import OracleConfig
from nemo_oracle_kd.models.oracle_transcription import TRANSCRIPT_NEEDED, OracleTranscriptionMixin
from nemo_oracle_kd.modules.oracle_encoder import OracleEncoder
from nemo_oracle_kd.strict_config import build_or_raise

__all__ = ['EncDecOracleCTCModel', 'EncDecOracleCTCModelBPE', 'OracleBranches']


class OracleBranches(NamedTuple):
    """Both answers of an oracle teacher to one batch."""

    log_probs: torch.Tensor | None
    """With the transcript read: natural-log posteriors `[B, T, V + 1]`, blank last; None if no transcript was read."""
    audio_log_probs: torch.Tensor | None
    """The audio branch, `[B, T, V + 1]`; None if the model was built without one (`audio_ctc_weight: 0`)."""
    lengths: torch.Tensor
    """Valid frames, `[B]`."""
    attention: list[torch.Tensor]
    """Cross-attention per fusion layer, `[B, H, T, U + 1]`, key 0 being "no text"; empty unless asked for."""


class OracleCTCMixin(OracleTranscriptionMixin):
    """What both oracle teachers add to NeMo's CTC models; `model.oracle` is an :class:`OracleConfig`."""

    reads_transcript = True
    """Tells distillation that `forward` needs the transcript."""

    def __init__(self, cfg: DictConfig, trainer: Any = None):
        section = OmegaConf.to_container(cfg.oracle, resolve=True) if cfg.get('oracle') is not None else None
        oracle = build_or_raise(OracleConfig, section, 'model.oracle')
        if cfg.get('interctc') is not None and cfg.interctc.get('apply_at_layers'):
            raise ConfigError(
                "an oracle teacher takes no `interctc` section: oracle.audio_ctc_weight is its loss on the audio "
                "encoder"
            )
        super().__init__(cfg=cfg, trainer=trainer)
        if not isinstance(self.encoder, OracleEncoder):
            raise ConfigError(
                f"`model.encoder` of an oracle teacher must be nemo_oracle_kd.modules.OracleEncoder with your "
                f"{type(self.encoder).__name__} as its `audio_encoder`"
            )
        if self.encoder.self_conditioning and oracle.audio_ctc_weight == 0:
            raise ConfigError(
                "`model.encoder.self_conditioning` reads the posteriors of the audio branch: set model.oracle.audio_ctc_weight "
                "above 0 or model.encoder.self_conditioning=false"
            )
        self.oracle = oracle
        self.encoder.label_corruption.config = oracle.label_corruption
        self.audio_decoder = None
        self._adapt_to_vocabulary(keep_embedding=True)

    def _adapt_to_vocabulary(self, keep_embedding: bool = False) -> None:
        """Builds what depends on the labels, label embedding and audio decoder, and records it in the config."""
        num_labels = self.decoder.num_classes_with_blank - 1
        label_encoder = self.encoder.label_encoder
        if not keep_embedding or label_encoder is None or label_encoder.num_labels != num_labels:
            self.encoder.set_num_labels(num_labels)
        with open_dict(self._cfg):
            self._cfg.encoder.num_labels = num_labels
            if self.oracle.audio_ctc_weight > 0:
                audio_decoder = copy.deepcopy(self._cfg.get('audio_decoder') or self._cfg.decoder)
                audio_decoder.feat_in = self.encoder.audio_feat_out
                audio_decoder.num_classes = num_labels
                audio_decoder.vocabulary = copy.deepcopy(self._cfg.decoder.vocabulary)
                self._cfg.audio_decoder = audio_decoder
        if self.oracle.audio_ctc_weight > 0:
            device = next(self.encoder.parameters()).device
            self.audio_decoder = EncDecCTCModel.from_config_dict(self._cfg.audio_decoder).to(device)

    def change_vocabulary(self, *args: Any, **kwargs: Any) -> None:
        """As NeMo's `change_vocabulary`; label embedding and audio decoder start anew with the decoder.

        See `EncDecCTCModel.change_vocabulary` and `EncDecCTCModelBPE.change_vocabulary` for the arguments.
        """
        old = list(self.decoder.vocabulary)
        super().change_vocabulary(*args, **kwargs)
        if list(self.decoder.vocabulary) != old:
            self._adapt_to_vocabulary()

    def initialise_audio_encoder(self) -> None:
        """Loads `oracle.init_audio_encoder_from`, once; called when training starts, never when a model is restored.

        Raises:
            ConfigError: no such model, other features, other shapes.
        """
        source = self.oracle.init_audio_encoder_from
        if not source:
            return
        load_audio_branch(self, source)
        # From here on the weights belong to this model: a copy restored from its .nemo must neither need nor reload
        # the source.
        self.oracle.init_audio_encoder_from, self.oracle.audio_encoder_initialised_from = None, source
        with open_dict(self._cfg):
            self._cfg.oracle.init_audio_encoder_from = None
            self._cfg.oracle.audio_encoder_initialised_from = source

    def setup(self, stage: str | None = None) -> None:
        """Lightning hook, before a checkpoint is resumed: checks the data; loads and freezes the audio encoder if asked to.

        Raises:
            ValueError: a training manifest lacks a transcript or audio.
        """
        super().setup(stage)
        if stage == 'fit':
            # NeMo reads a row without `text` as an empty transcript, which would teach that "no text" means silence
            check_training_data(self._cfg.get('train_ds'), needs_text=True, sample_rate=describe(self).sample_rate)
            self.initialise_audio_encoder()
            if self.oracle.freeze_audio_encoder and self.oracle.audio_only_steps == 0:
                self.encoder.freeze_audio()

    @property
    def input_types(self) -> dict[str, NeuralType]:
        return {
            **super().input_types,
            'transcript': NeuralType(('B', 'T'), LabelsType(), optional=True),
            'transcript_length': NeuralType(tuple('B'), LengthsType(), optional=True),
        }

    def audio_posteriors(self, audio: torch.Tensor) -> torch.Tensor | None:
        """Log posteriors `[B, T, V + 1]` of the audio branch from the audio encoder's `[B, D, T]`; None without one."""
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
        """Both branches from one run of the audio encoder.

        Args:
            input_signal: waveforms, `[B, S]`.
            input_signal_length: `[B]`.
            processed_signal: features `[B, F, T]`, instead of waveforms.
            processed_signal_length: `[B]`.
            transcript: label ids, `[B, U]`; None: audio branch only.
            transcript_length: `[B]`; 0 means "no text".
            return_attention: also give the cross-attention weights.
        """
        has_waveform = input_signal is not None and input_signal_length is not None
        has_features = processed_signal is not None and processed_signal_length is not None
        if has_waveform == has_features:
            raise ValueError("pass either input_signal with its length or processed_signal with its length")
        if has_waveform:
            processed_signal, processed_signal_length = self.preprocessor(
                input_signal=input_signal, length=input_signal_length
            )
        if self.spec_augmentation is not None and self.training:
            processed_signal = self.spec_augmentation(input_spec=processed_signal, length=processed_signal_length)
        audio, lengths = self.encoder.encode_audio(processed_signal, processed_signal_length)
        audio_log_probs = self.audio_posteriors(audio)
        if transcript is None:
            return OracleBranches(None, audio_log_probs, lengths, [])
        fused, attention = self.encoder.fuse(
            audio, lengths, transcript, transcript_length, audio_log_probs, return_attention
        )
        return OracleBranches(self.decoder(encoder_output=fused), audio_log_probs, lengths, attention)

    @typecheck()
    def forward(
        self,
        input_signal: torch.Tensor | None = None,
        input_signal_length: torch.Tensor | None = None,
        processed_signal: torch.Tensor | None = None,
        processed_signal_length: torch.Tensor | None = None,
        transcript: torch.Tensor | None = None,
        transcript_length: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As NeMo's CTC models, with the transcript.

        Returns:
            Log posteriors `[B, T, V + 1]`, lengths `[B]`, greedy labels `[B, T]`.

        Raises:
            ValueError: no transcript.
        """
        if transcript is None or transcript_length is None:
            raise ValueError(TRANSCRIPT_NEEDED)
        branches = self.forward_branches(
            input_signal=input_signal,
            input_signal_length=input_signal_length,
            processed_signal=processed_signal,
            processed_signal_length=processed_signal_length,
            transcript=transcript,
            transcript_length=transcript_length,
        )
        return branches.log_probs, branches.lengths, branches.log_probs.argmax(dim=-1)

    def _forward_batch(self, batch: Any, with_text: bool = True) -> OracleBranches:
        signal, signal_length, transcript, transcript_length = batch
        names = ('input_signal', 'input_signal_length')
        if isinstance(batch, DALIOutputs) and batch.has_processed_signal:
            names = ('processed_signal', 'processed_signal_length')
        inputs = {names[0]: signal, names[1]: signal_length}
        if with_text:
            inputs.update(transcript=transcript, transcript_length=transcript_length)
        return self.forward_branches(**inputs)

    def _ctc(self, log_probs: torch.Tensor, lengths: torch.Tensor, batch: Any) -> torch.Tensor:
        return self.loss(log_probs=log_probs, targets=batch[2], input_lengths=lengths, target_lengths=batch[3])

    def _word_errors(self, log_probs: torch.Tensor, lengths: torch.Tensor, batch: Any) -> tuple[torch.Tensor, ...]:
        """WER, errors and words of a batch, with NeMo's metric."""
        self.wer.update(predictions=log_probs, predictions_lengths=lengths, targets=batch[2], targets_lengths=batch[3])
        result = self.wer.compute()
        self.wer.reset()
        return result

    def training_step(self, batch: Any, batch_nb: int) -> dict[str, Any]:
        if AccessMixin.is_access_enabled(self.model_guid):
            AccessMixin.reset_registry(self)
        step = self.trainer.global_step
        audio_only = step < self.oracle.audio_only_steps
        if self.oracle.freeze_audio_encoder and not audio_only and not self.encoder.audio_is_frozen:
            logging.info(f"Audio encoder frozen at step {step}.")
            self.encoder.freeze_audio()

        # Distributed training wants a gradient for every parameter, also while the fused branch waits.
        with_text = not audio_only or self.trainer.world_size > 1
        branches = self._forward_batch(batch, with_text=with_text)
        logs = {}
        loss = 0.0
        if branches.log_probs is not None:
            fused = self._ctc(branches.log_probs, branches.lengths, batch)
            logs['train_loss_fused'] = fused.detach()
            loss = fused * (0.0 if audio_only else 1.0)
        if branches.audio_log_probs is not None:
            audio = self._ctc(branches.audio_log_probs, branches.lengths, batch)
            logs['train_loss_audio'] = audio.detach()
            loss = loss + audio * (1.0 if audio_only else self.oracle.audio_ctc_weight)
        loss = self.add_auxiliary_losses(loss)
        if AccessMixin.is_access_enabled(self.model_guid):
            AccessMixin.reset_registry(self)

        logs['train_loss'] = loss.detach()
        logs['learning_rate'] = self._optimizer.param_groups[0]['lr']
        logs['global_step'] = torch.tensor(step, dtype=torch.float32)
        if (batch_nb + 1) % self.trainer.log_every_n_steps == 0:
            if branches.log_probs is not None:
                logs['training_batch_wer'] = self._word_errors(branches.log_probs, branches.lengths, batch)[0]
            if branches.audio_log_probs is not None:
                logs['training_batch_wer_audio'] = self._word_errors(
                    branches.audio_log_probs, branches.lengths, batch
                )[0]
        return {'loss': loss, 'log': logs}

    def validation_pass(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, torch.Tensor]:
        branches = self._forward_batch(batch)
        wer, errors, words = self._word_errors(branches.log_probs, branches.lengths, batch)
        metrics = {
            'val_loss': self._ctc(branches.log_probs, branches.lengths, batch),
            'val_wer': wer,
            'val_wer_num': errors,
            'val_wer_denom': words,
        }
        if branches.audio_log_probs is not None:
            metrics['val_loss_audio'] = self._ctc(branches.audio_log_probs, branches.lengths, batch)
            _, metrics['val_wer_audio_num'], metrics['val_wer_audio_denom'] = self._word_errors(
                branches.audio_log_probs, branches.lengths, batch
            )
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
        branches = self._forward_batch(batch[:4])
        texts = self.wer.decoding.ctc_decoder_predictions_tensor(
            decoder_outputs=branches.log_probs, decoder_lengths=branches.lengths, return_hypotheses=False
        )
        if isinstance(sample_id, torch.Tensor):
            sample_id = sample_id.cpu().detach().numpy()
        return list(zip(sample_id, texts))

    @classmethod
    def list_available_models(cls) -> list[PretrainedModelInfo]:
        """None. Inheriting NeMo's list would make `ASRModel.from_pretrained` build this class."""
        return []


class EncDecOracleCTCModel(OracleCTCMixin, EncDecCTCModel):
    """Oracle teacher over characters (or any fixed list of labels)."""


class EncDecOracleCTCModelBPE(OracleCTCMixin, EncDecCTCModelBPE):
    """Oracle teacher over sub-words."""
