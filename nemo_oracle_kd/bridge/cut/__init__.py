# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Cuts a NeMo model to a smaller one of the same class: fewer layers, narrower layers."""
