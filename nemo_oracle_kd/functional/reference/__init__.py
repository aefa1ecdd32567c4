# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Slow, readable brute-force definitions, which share no code with the fast functions that they check."""
