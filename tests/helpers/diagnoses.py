# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What the diagnosis must say of a teacher of tones that listens, and of one that copies, whatever their heads are."""

from typing import Any

DECIDING = ('emitted_other_audio', 'emitted_silence', 'scored_other_audio')


def assert_listens(diagnosis: Any) -> None:
    """Verdict and measures of a teacher that listens."""
    conditions = diagnosis.conditions
    assert diagnosis.verdict == 'listens', diagnosis.reasons
    assert conditions['true_text'].wer_spoken < 50 < conditions['silent_audio'].wer_spoken
    assert conditions['true_text'].loss < conditions['swapped_text'].loss
    assert diagnosis.copied_share_swapped < 0.4 and diagnosis.copied_share_silent < 0.4
    assert all(diagnosis.heard[name].low > 0.5 for name in DECIDING)
    assert diagnosis.spike_reference == 'audio branch of the teacher' and diagnosis.spike_distance_ms >= 0
    assert -1 <= diagnosis.attention_monotonicity <= 1 and 0 <= diagnosis.attention_hit_rate <= 1


def assert_copies(diagnosis: Any, label_errors: float) -> None:
    """Verdict and measures of a copying teacher that makes at most so many label errors, percent, with the true text."""
    assert diagnosis.verdict == 'copies', diagnosis.reasons
    # With the true text alone it looks perfect: that is the danger.
    assert diagnosis.conditions['true_text'].given_label_errors < label_errors
    assert diagnosis.copied_share_swapped > 0.5 and diagnosis.copied_share_silent > 0.5
    assert diagnosis.heard['emitted_silence'].high < 0.25 and diagnosis.heard['scored_other_audio'].high < 0.25
    assert 'audio_branch' not in diagnosis.conditions and diagnosis.spike_reference is None
