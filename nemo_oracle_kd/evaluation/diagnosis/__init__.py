# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Does an oracle teacher listen, or does it copy the transcript that it reads?"""
