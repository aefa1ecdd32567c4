# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Offline labelling: writes a teacher's texts and scores into a manifest (layer 4)."""
