# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Errors that name the fix, and the helper behind "did you mean"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """One or several mistakes in a configuration, reported together.

    Args:
        messages: one sentence, or several; every sentence says what is wrong and how to mend it.

    Attributes:
        messages: the sentences, in the order in which they were found.
    """

    def __init__(self, messages: str | Iterable[str]):
        self.messages: list[str] = [messages] if isinstance(messages, str) else [str(message) for message in messages]
        if not self.messages:
            raise ValueError("ConfigError needs at least one message.")
        super().__init__(self._text())

    def __reduce__(self):
        # The default would rebuild the error from its text and lose the single messages.
        return type(self), (self.messages,)

    def _text(self) -> str:
        if len(self.messages) == 1:
            return self.messages[0]
        lines = [f"{number}. {message}" for number, message in enumerate(self.messages, start=1)]
        return "\n".join([f"{len(lines)} mistakes in the configuration:", *lines])

    @classmethod
    def raise_if_any(cls, messages: Iterable[str]) -> None:
        """Raises one error for all ``messages``; does nothing when there are none.

        Raises:
            ConfigError: if ``messages`` is not empty.
        """
        messages = list(messages)
        if messages:
            raise cls(messages)


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """Returns the entry of ``valid`` that a person who typed ``name`` most likely meant, or None if none is close."""
    valid = [str(entry) for entry in valid]
    by_folded_name = {entry.lower().replace('-', '_'): entry for entry in reversed(valid)}
    folded = str(name).lower().replace('-', '_')
    if folded in by_folded_name:
        return by_folded_name[folded]
    close = difflib.get_close_matches(folded, by_folded_name, n=1, cutoff=0.6)
    return by_folded_name[close[0]] if close else None


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """Returns the sentence for an unknown ``name`` of a ``kind``: with the nearest valid name and all valid names."""
    valid = sorted(str(entry) for entry in valid)
    guess = nearest(name, valid)
    hint = f" Did you mean '{guess}'?" if guess is not None else ""
    return f"Unknown {kind} '{name}'.{hint} Valid: {', '.join(valid) if valid else 'none'}."
