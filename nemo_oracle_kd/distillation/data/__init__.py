# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The training data of a distillation: checks of the manifest rows, and the scores and marks read from them."""
