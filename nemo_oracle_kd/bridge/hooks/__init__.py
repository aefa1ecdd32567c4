# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The hooks by which distillation enters a stock NeMo training step: they wrap the losses of the model."""
