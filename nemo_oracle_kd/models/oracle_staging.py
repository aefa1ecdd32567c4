# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""When an oracle teacher begins to read: once its audio branch has learned something.

A branch that reads while the audio branch hears nothing has no reason to listen and learns to copy by position; no guard that acts
later has brought such a teacher back. What the audio branch has learned is told by its loss. A count of steps cannot tell it, because
the plateau of blanks, which CTC must leave first, lasts longer for some corpora and seeds than for others.
"""

from typing import Any

import torch
from nemo.utils import logging

from nemo_oracle_kd.bridge.hooks.student import ctc_losses
from nemo_oracle_kd.bridge.signals import Transcripts
from nemo_oracle_kd.distillation.self_teachers.start import Start
from nemo_oracle_kd.models.oracle_config import OracleConfig
from nemo_oracle_kd.models.oracle_outputs import OracleBranches

__all__ = ['OracleStagingMixin']

STATE = 'nemo_oracle_kd_oracle'


class OracleStagingMixin:
    """Follows the audio branch's running loss in a fit, and decides from which step on the transcript is read.

    The state is part of a training checkpoint, not of the saved model.
    """

    oracle: OracleConfig
    _start: Start

    def reads_at(self, step: int) -> bool:
        """Whether the transcript is read in a training step.

        Args:
            step: optimizer steps done before it.
        """
        heard = self.oracle.start_below is None or self._start.since is not None
        return heard and step >= self.oracle.audio_only_steps

    def freeze_audio_if_asked(self, step: int) -> None:
        """Freezes the audio encoder, once, if `oracle.freeze_audio_encoder` is set."""
        if self.oracle.freeze_audio_encoder and not self.encoder.audio_is_frozen:
            logging.info(f"Audio encoder frozen at step {step}.")
            self.encoder.freeze_audio()

    @torch.no_grad()
    def follow_audio(self, branches: OracleBranches, batch: Any, step: int) -> dict[str, float]:
        """Adds the audio branch's losses of a batch to its running mean, as long as the transcript is not read.

        Returns:
            The running loss in nats per label, for the log; empty when it is no longer followed.
        """
        start = self._start
        if start.below is None or start.since is not None:
            return {}
        criterion, _ = self._audio_criteria()
        texts = Transcripts(batch[2].long(), batch[3].long())
        losses = ctc_losses(criterion, branches.audio_log_probs, branches.lengths, texts)
        if start.follow(losses, texts.lengths, step):
            logging.info(
                f"Step {step}: the audio branch's loss is {start.loss.value:.3g} nats per label, below "
                f"oracle.start_below={start.below:g}; the transcript is read from step "
                f"{max(step + 1, self.oracle.audio_only_steps)} on."
            )
        return {} if start.loss.value is None else {'train_audio_loss_per_label': start.loss.value}

    def on_train_end(self) -> None:
        """Warns of a teacher that has never read a transcript: its fusion is untrained. Lightning calls this hook."""
        super().on_train_end()
        if self.reads_at(self.trainer.global_step):
            return
        start, loss = self._start, self._start.loss.value
        waits = (
            f"the audio branch's running loss is {loss:.3g} nats per label" if start.since is None and loss else None
        )
        logging.warning(
            "This teacher has not read a single transcript, so it must not teach: "
            f"{waits or 'the training ended before audio_only_steps'}. Train it longer, start from a trained encoder "
            f"(model.oracle.init_audio_encoder_from), or raise model.oracle.start_below (now {start.below}) or lower "
            f"model.oracle.audio_only_steps (now {self.oracle.audio_only_steps})."
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the running loss, so that a resumed training goes on as if it had not stopped. Lightning calls this hook."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[STATE] = self._start.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the running loss from a checkpoint. Lightning calls this hook."""
        super().on_load_checkpoint(checkpoint)
        if STATE in checkpoint:
            self._start.load_state(checkpoint[STATE])
