# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Hydra configuration of nemo_oracle_kd: presets (``+oracle_kd=<name>``) and recipes, installed inside the package."""
