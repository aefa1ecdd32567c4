# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The distillation objectives with their configurations, and the transducer losses for NeMo (layer 2)."""
