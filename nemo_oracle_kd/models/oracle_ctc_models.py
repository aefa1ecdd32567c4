# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Oracle teachers: CTC models that read the audio *and* the transcript (arXiv 2111.03664).

They are trained, logged, checkpointed and saved like NeMo's own CTC models. Their posteriors are the targets of a student.
They are not recognisers: without the transcript they know no more than their audio branch.
"""

from typing import Any

import torch
from nemo.collections.asr.models.ctc_bpe_models import EncDecCTCModelBPE
from nemo.collections.asr.models.ctc_models import EncDecCTCModel
from omegaconf import DictConfig

from nemo_oracle_kd.models.oracle_mixin import OracleMixin
from nemo_oracle_kd.models.oracle_outputs import OracleBranches, WordErrors

__all__ = ['EncDecOracleCTCModel', 'EncDecOracleCTCModelBPE', 'OracleCTCMixin']


class OracleCTCMixin(OracleMixin):
    """The CTC head of an oracle teacher. The audio branch has a CTC head of the same kind."""

    _transcription_outputs = ('logits', 'logits_len')

    @property
    def head_vocabulary(self) -> list[str]:
        return list(self.decoder.vocabulary)

    def _audio_decoder_section(self) -> DictConfig:
        return self._cfg.decoder

    def _audio_criteria(self) -> tuple[Any, Any]:
        return self.loss, self.wer

    def fused_posteriors(self, encoded: torch.Tensor) -> torch.Tensor:
        return self.decoder(encoder_output=encoded)

    def _as_nemo(self, branches: OracleBranches) -> tuple[torch.Tensor, ...]:
        return branches.log_probs, branches.lengths, branches.log_probs.argmax(dim=-1)

    def _score_fused(
        self, branches: OracleBranches, batch: Any, with_loss: bool, with_errors: bool
    ) -> tuple[torch.Tensor | None, WordErrors | None]:
        log_probs, lengths = branches.log_probs, branches.lengths
        loss = self._ctc(self.loss, log_probs, lengths, batch) if with_loss else None
        return loss, self._word_errors(self.wer, log_probs, lengths, batch) if with_errors else None

    def _decode(self, branches: OracleBranches) -> list[Any]:
        return self.wer.decoding.ctc_decoder_predictions_tensor(
            decoder_outputs=branches.log_probs, decoder_lengths=branches.lengths, return_hypotheses=False
        )


class EncDecOracleCTCModel(OracleCTCMixin, EncDecCTCModel):
    """Oracle teacher over characters (or any fixed list of labels)."""


class EncDecOracleCTCModelBPE(OracleCTCMixin, EncDecCTCModelBPE):
    """Oracle teacher over sub-words."""
