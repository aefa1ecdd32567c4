# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Teachers that are the student: with the transcript, averaged over time, in another view, with more context."""
