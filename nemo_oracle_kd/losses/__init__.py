# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The objectives of distillation with their configurations, and transducer losses for NeMo (layer 2)."""
