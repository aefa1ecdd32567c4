# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The ``nemo-oracle-kd`` command: one module per subcommand, each with HELP, add_arguments and run."""
