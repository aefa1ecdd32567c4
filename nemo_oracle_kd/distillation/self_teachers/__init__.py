# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Self-teachers: the student with the transcript, averaged over time, in a second view, or with more context."""
