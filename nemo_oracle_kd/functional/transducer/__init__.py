# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Transducer lattices: RNN-T, TDT and multi-blank, from their arcs to sums, alignments and N-best lists."""
