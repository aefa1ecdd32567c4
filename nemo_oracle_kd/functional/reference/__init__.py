# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Slow, readable definitions by brute force, which share no code with the fast paths that they check."""
