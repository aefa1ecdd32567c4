# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs experiments of many trainings: jobs with dependencies, and comparisons of systems over seeds.

A job is the command line of an ordinary recipe, as a user would type it, and runs in a process of its own.
"""
