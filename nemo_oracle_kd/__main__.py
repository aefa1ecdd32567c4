# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""``python -m nemo_oracle_kd``: the same as the command ``nemo-oracle-kd``."""

import sys

from nemo_oracle_kd.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
