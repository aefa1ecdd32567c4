# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures what a distillation gained: error rates, significance, transcription, diagnosis, figures and the report.

Import the modules by their own names (``from nemo_oracle_kd.evaluation.error_rates import score``), so that scoring two
files of text imports neither NeMo nor matplotlib.
"""
