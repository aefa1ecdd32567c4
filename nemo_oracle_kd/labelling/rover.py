# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""ROVER: one text from several by a vote on every word (Fiscus, "A post-processing system to yield reduced word error rates:
Recognizer Output Voting Error Reduction", ASRU 1997).

The texts are aligned one after the other with a network of slots. A slot holds what each text has there: a word, or nothing.
"""

from collections.abc import Sequence

__all__ = ['align', 'rover']

Slot = list[str | None]


def align(slots: Sequence[Slot], words: Sequence[str], before: int) -> tuple[list[Slot], int]:
    """Aligns a text with a network, at the least cost.

    A word costs nothing in a slot that has it, and one in any other slot or in a new one. A slot without a word of the text costs
    nothing if it may be empty already, and one otherwise.

    Args:
        slots: the network; each slot holds one entry for each text that it was made of.
        words: the words of the text.
        before: number of texts in the network.

    Returns:
        The network with the text, and the cost.
    """
    rows, columns = len(slots) + 1, len(words) + 1
    cost = [[0] * columns for _ in range(rows)]
    for i in range(rows):
        for j in range(columns):
            if i or j:
                cost[i][j] = min(choice[0] for choice in _choices(cost, slots, words, i, j))
    i, j, found = len(slots), len(words), []
    while i or j:
        _, (step_i, step_j) = min(_choices(cost, slots, words, i, j), key=lambda choice: choice[0])
        slot = list(slots[i - 1]) if step_i else [None] * before
        found.append([*slot, words[j - 1] if step_j else None])
        i, j = i - step_i, j - step_j
    return found[::-1], cost[-1][-1]


def _choices(cost, slots, words, i, j) -> list[tuple[int, tuple[int, int]]]:
    """The costs of the ways to come to a place, and the steps; a word in a slot is preferred among equals."""
    found = []
    if i and j:
        found.append((cost[i - 1][j - 1] + (words[j - 1] not in slots[i - 1]), (1, 1)))
    if i:
        found.append((cost[i - 1][j] + (None not in slots[i - 1]), (1, 0)))
    if j:
        found.append((cost[i][j - 1] + 1, (0, 1)))
    return found


def rover(texts: Sequence[str], votes: Sequence[float] | None = None) -> tuple[str, float]:
    """The text of the most votes in every slot.

    Args:
        texts: one text of each recogniser.
        votes: what the vote of each text counts, positive; by default 1. Among equals the text that comes first decides.

    Returns:
        The text, and its mean share of the votes over all slots, 0 to 1; 1 if all texts are empty.
    """
    votes = [1.0] * len(texts) if votes is None else votes
    slots: list[Slot] = []
    for number, text in enumerate(texts):
        slots, _ = align(slots, text.split(), number)
    words, shares = [], []
    for slot in slots:
        total: dict[str | None, float] = {}
        for entry, vote in zip(slot, votes):
            total[entry] = total.get(entry, 0.0) + vote
        best = max(total, key=total.__getitem__)  # of equals the first
        shares.append(total[best] / sum(votes))
        words += [] if best is None else [best]
    return ' '.join(words), sum(shares) / len(shares) if shares else 1.0
