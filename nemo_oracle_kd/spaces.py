# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The form in which texts are compared and scored."""

from typing import Any

__all__ = ['normalize_spaces']


def normalize_spaces(text: Any) -> str:
    """Without space at the ends, single spaces inside; a text that is missing in its row is empty, a number its digits."""
    return ' '.join(str(text or '').split())
