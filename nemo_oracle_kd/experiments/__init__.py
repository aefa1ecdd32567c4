# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Running experiments of many trainings: jobs with dependencies, and the comparison of systems over seeds.

Nothing here trains. A job is the command line of an ordinary recipe script, as a user would type it.
"""
