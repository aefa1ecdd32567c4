# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Hydra plug-in: registers nemo_oracle_kd with NeMo and adds its presets to every Hydra application.

NeMo itself scans for Hydra plug-ins while it is imported, so that ``import nemo.collections.asr`` runs this module,
also in notebooks and in the processes of distributed training.  Every Hydra application in the environment imports it
too: nothing here may import torch or NeMo.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

import nemo_oracle_kd

nemo_oracle_kd.register()


class OracleKDSearchPathPlugin(SearchPathPlugin):
    """Makes the group ``oracle_kd`` available: ``python any_recipe.py +oracle_kd=<preset>``."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Appends our configuration folder, behind that of the recipe, which therefore wins."""
        search_path.append(provider='nemo_oracle_kd', path='pkg://nemo_oracle_kd.conf')
