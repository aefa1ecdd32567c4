# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Oracle teachers for transducers: the oracle encoder under NeMo's prediction network and joint.

The lattice `log p(k | t, u)` of such a teacher depends on the transcript and on the audio. Its sequence score carries no
information, because the teacher has read the sequence. A student can learn from it *when* each label comes, and *with what
confidence*.

    Z = CrossAttention(SelfAttention(H), keys = values = R)                               as in the CTC teacher
    p(k | t, u) = softmax(Joint(Z_t, Prediction(y_1 .. y_u)))
    L = RNNT(p, y) + audio_ctc_weight * CTC(audio branch, y)
"""

from typing import Any

import torch
from nemo.collections.asr.losses.ctc import CTCLoss
from nemo.collections.asr.metrics.wer import WER
from nemo.collections.asr.models.rnnt_bpe_models import EncDecRNNTBPEModel
from nemo.collections.asr.models.rnnt_models import EncDecRNNTModel
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_oracle_kd.bridge.decoding import ctc_decoding
from nemo_oracle_kd.bridge.model import Head
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.models.oracle_mixin import OracleMixin
from nemo_oracle_kd.models.oracle_outputs import OracleBranches, WordErrors

__all__ = ['EncDecOracleRNNTModel', 'EncDecOracleRNNTModelBPE', 'OracleRNNTMixin']


class OracleRNNTMixin(OracleMixin):
    """The transducer head of an oracle teacher: RNN-T, TDT or multi-blank. Its audio branch has a CTC head."""

    _transcription_outputs = ('encoded', 'encoded_len')

    def __init__(self, cfg: DictConfig, trainer: Any = None):
        width, joint_width = cfg.encoder.get('d_model'), cfg.model_defaults.enc_hidden
        if width is not None and width != joint_width:
            raise ConfigError(
                f"`model.encoder.d_model` is {width}, but the joint reads model.model_defaults.enc_hidden = {joint_width}: set both "
                "to the same width"
            )
        super().__init__(cfg=cfg, trainer=trainer)
        if self.oracle.timing_weight > 0:
            raise ConfigError(
                "`model.oracle.timing_weight` compares frame posteriors, which a transducer does not have: set it to 0"
            )

    @property
    def head_vocabulary(self) -> list[str]:
        return list(self.joint.vocabulary)

    def _adapt_to_vocabulary(self, keep_embedding: bool = False) -> None:
        super()._adapt_to_vocabulary(keep_embedding)
        labels = self.head_vocabulary
        if 'labels' in self._cfg:
            # NeMo builds a character model from these, but does not update them when the vocabulary changes.
            with open_dict(self._cfg):
                self._cfg.labels = labels
        self.audio_loss, self.audio_wer = None, None
        if self.audio_decoder is None:
            return
        self.audio_loss = CTCLoss(
            num_classes=len(labels), zero_infinity=True, reduction=self._cfg.get('ctc_reduction', 'mean_batch')
        )
        self.audio_wer = WER(
            decoding=ctc_decoding(self, Head(tuple(labels), len(labels)), {'strategy': 'greedy_batch'}),
            use_cer=self.wer.use_cer,
            log_prediction=False,
            dist_sync_on_step=True,
        )

    def _audio_decoder_section(self) -> DictConfig:
        return OmegaConf.create({'_target_': 'nemo.collections.asr.modules.ConvASRDecoder'})

    def _audio_criteria(self) -> tuple[Any, Any]:
        return self.audio_loss, self.audio_wer

    def fused_posteriors(self, encoded: torch.Tensor) -> None:
        return None

    def _as_nemo(self, branches: OracleBranches) -> tuple[torch.Tensor, ...]:
        return branches.encoded, branches.lengths

    def _score_fused(
        self, branches: OracleBranches, batch: Any, with_loss: bool, with_errors: bool
    ) -> tuple[torch.Tensor | None, WordErrors | None]:
        encoded, lengths = branches.encoded, branches.lengths
        labels, label_lengths = batch[2], batch[3]
        if self.training and self._optim_normalize_joint_txu:
            self._optim_normalize_txu = [lengths.max(), label_lengths.max()]
        predicted = None
        if with_loss:
            predicted, label_lengths, _ = self.decoder(targets=labels, target_length=label_lengths)
        if self.joint.fuse_loss_wer:
            loss, *errors = self.joint(
                encoder_outputs=encoded,
                decoder_outputs=predicted,
                encoder_lengths=lengths,
                transcripts=labels,
                transcript_lengths=label_lengths,
                compute_wer=with_errors,
            )
            return loss, tuple(errors) if with_errors else None
        loss = None
        if with_loss:
            lattice = self.joint(encoder_outputs=encoded, decoder_outputs=predicted)
            loss = self.loss(log_probs=lattice, targets=labels, input_lengths=lengths, target_lengths=label_lengths)
        return loss, self._word_errors(self.wer, encoded, lengths, batch) if with_errors else None

    def _decode(self, branches: OracleBranches) -> list[Any]:
        return self.decoding.rnnt_decoder_predictions_tensor(
            encoder_output=branches.encoded, encoded_lengths=branches.lengths, return_hypotheses=True
        )

    def to_config_file(self, path2yaml_file: str) -> None:
        """Saves the config with its own `loss.loss_name`.

        A stock transducer is saved with the name of NeMo's default loss, so that it restores without this package. This class
        needs the package in any case.
        """
        super(EncDecRNNTModel, self).to_config_file(path2yaml_file)


class EncDecOracleRNNTModel(OracleRNNTMixin, EncDecRNNTModel):
    """Oracle teacher with a transducer head over characters (or any fixed list of labels)."""


class EncDecOracleRNNTModelBPE(OracleRNNTMixin, EncDecRNNTBPEModel):
    """Oracle teacher with a transducer head over sub-words."""
