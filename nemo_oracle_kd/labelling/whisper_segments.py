# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Reads the segments that faster-whisper and Whisper write: one text, its log-probability, and the signs of a bad one.

Both give `avg_logprob`, natural log, of a window of up to 30 seconds: the sum over the window's tokens and one end of the text, divided by
the number of tokens plus one. All segments of a window share it. Time stamps are tokens.
"""

import math
from typing import Any

from nemo_oracle_kd.corpus.manifest import is_encodable, is_number

__all__ = ['text_of_segments']

_DECIMALS = 4


def text_of_segments(segments: Any) -> tuple[str, dict[str, Any], dict[str, Any]] | None:
    """Joins the segments of an utterance.

    Args:
        segments: a list of objects with `text`, `tokens`, `avg_logprob`, `seek` and more, in order.

    Returns:
        The text; `log_prob` in nats (if there is one), its number of `tokens` without the ends, and its `words`, if there are any;
        and the fields of the row: `confidence`, the geometric mean of the probabilities of tokens and ends, and of
        `no_speech_prob`, `compression_ratio` and `temperature` the largest. `None` if these are no segments.
    """
    if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
        return None
    windows: dict[Any, int] = {}
    for segment in segments:
        text, tokens, mean = (segment.get(key) for key in ('text', 'tokens', 'avg_logprob'))
        if not (isinstance(text, str) and is_encodable(text) and isinstance(tokens, list)):
            return None
        window = (str(segment.get('seek')), mean if is_number(mean) else None)
        windows[window] = windows.get(window, 0) + len(tokens)
    values: dict[str, Any] = {'tokens': sum(windows.values())}
    fields: dict[str, Any] = {}
    if windows and all(mean is not None for _, mean in windows):
        values['log_prob'] = math.fsum(mean * (tokens + 1) for (_, mean), tokens in windows.items())
        terms = values['tokens'] + len(windows)
        fields['confidence'] = round(math.exp(min(0.0, values['log_prob'] / terms)), _DECIMALS)
    for key in ('no_speech_prob', 'compression_ratio', 'temperature'):
        found = [segment[key] for segment in segments if is_number(segment.get(key))]
        if found:
            fields[key] = round(max(found), _DECIMALS)
    words = [segment.get('words') for segment in segments]
    if words and all(isinstance(of_one, list) for of_one in words):
        values['words'] = sum(words, [])
    return ''.join(segment['text'] for segment in segments), values, fields
