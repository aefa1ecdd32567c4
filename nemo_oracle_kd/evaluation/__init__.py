# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measuring what distillation bought: scoring, significance, transcription, figures and the report.

The modules are imported by their own names (``from nemo_oracle_kd.evaluation.error_rates import score``), so that scoring
two files of text costs neither a NeMo nor a matplotlib import.
"""
