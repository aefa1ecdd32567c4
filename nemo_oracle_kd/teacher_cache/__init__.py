# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Keeps a teacher's answers to a corpus on disk: what is kept, the files, and how they are written, merged and read (layer 4)."""
