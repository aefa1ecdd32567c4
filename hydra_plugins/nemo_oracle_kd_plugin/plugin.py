# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Hydra plug-in: registers nemo_oracle_kd with NeMo and adds its presets to every Hydra application.

NeMo itself scans for Hydra plug-ins while it is imported, so that ``import nemo.collections.asr`` runs this module,
also in notebooks and in the processes of distributed training.  Every Hydra application in the environment imports it
too: nothing here may import torch or NeMo.
"""

from __future__ import annotations

import types

from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.plugins.search_path_plugin import SearchPathPlugin

import nemo_oracle_kd

nemo_oracle_kd.register()

PROVIDER, SCHEMA = 'nemo_oracle_kd', 'schema'
_Anchor = SearchPathQuery | str | None


def _append(self: ConfigSearchPath, provider: str, path: str, anchor: _Anchor = None) -> None:
    if provider == SCHEMA or anchor is not None:  # Hydra wants its schema to be the last
        type(self).append(self, provider, path, anchor)
    else:
        self.prepend(provider, path, anchor=PROVIDER)


def _prepend(self: ConfigSearchPath, provider: str, path: str, anchor: _Anchor = None) -> None:
    before_the_schema = SCHEMA in (anchor, getattr(anchor, 'provider', None))
    type(self).prepend(self, provider, path, PROVIDER if before_the_schema else anchor)


class OracleKDSearchPathPlugin(SearchPathPlugin):
    """Makes the group ``oracle_kd`` available: ``python any_recipe.py +oracle_kd=<preset>``."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Appends our configuration folder, and keeps it behind every other one, so that a user's preset wins.

        Hydra adds ``--config-dir`` and ``hydra.searchpath`` after the plug-ins have run, and takes a file from the
        first folder that has it.  Its ConfigStore, which comes last by itself, is no way out: Hydra merges a file into
        an entry of the store with the same name, so that what a user deletes from a copied preset would come back.
        """
        search_path.append(provider=PROVIDER, path='pkg://nemo_oracle_kd.conf')
        search_path.append = types.MethodType(_append, search_path)
        search_path.prepend = types.MethodType(_prepend, search_path)
