# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Distillation: a distiller binds one teacher, some objectives and one student (layer 4)."""
