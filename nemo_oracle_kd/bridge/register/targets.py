# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The classes of this package that a configuration file may name, eighteen by their full paths, and no function.

NeMo refuses every ``_target_`` outside of its allow-list, because a ``.nemo`` file from elsewhere could otherwise run any
code.  :data:`PUBLIC_TARGETS` are appended to that list, and nothing else in this package is admitted.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType

from nemo_oracle_kd.bridge.register.import_hooks import MARK

ALLOW_LIST = 'ALLOWED_TARGET_PREFIXES'
"""Name of NeMo's list in ``nemo.core.classes.common``.

Its neighbour ``ALLOWED_CALLABLE_PREFIXES`` must never name this package: it admits functions, and a function that
takes a path or a callable is arbitrary code in the hands of a configuration file.
"""

PUBLIC_TARGETS = (
    # the encoder of a saved oracle teacher
    'nemo_oracle_kd.modules.OracleEncoder',
    # the class of a saved oracle teacher, by the path that NeMo writes into its file and by the public one
    *(
        f'nemo_oracle_kd.models.{home}{name}'
        for name, module in (
            ('EncDecOracleCTCModel', 'oracle_ctc_models.'),
            ('EncDecOracleCTCModelBPE', 'oracle_ctc_models.'),
            ('EncDecOracleRNNTModel', 'oracle_rnnt_models.'),
            ('EncDecOracleRNNTModelBPE', 'oracle_rnnt_models.'),
        )
        for home in ('', module)
    ),
    # models of word pictures and their modules; a saved model names them by these paths
    'nemo_oracle_kd.scene_text.augmentation.PictureAugmentation',
    'nemo_oracle_kd.scene_text.encoder.ConvRecurrentEncoder',
    'nemo_oracle_kd.scene_text.models.EncDecOraclePictureCTCModel',
    'nemo_oracle_kd.scene_text.models.EncDecPictureCTCModel',
    'nemo_oracle_kd.scene_text.preprocessor.WordPicturePreprocessor',
    # entries of trainer.callbacks
    'nemo_oracle_kd.callbacks.AlignmentPictures',
    'nemo_oracle_kd.callbacks.KnowledgeDistillation',
    'nemo_oracle_kd.callbacks.RunRecord',
    'nemo_oracle_kd.callbacks.TimeBudget',
)
"""Full paths that a configuration may name: classes whose constructors neither write nor load anything."""


def is_registered() -> bool:
    """Whether NeMo is imported and accepts these targets."""
    common = sys.modules.get('nemo.core.classes.common')
    return common is not None and set(PUBLIC_TARGETS) <= set(getattr(common, ALLOW_LIST, []))


def extend_allow_list(common: ModuleType) -> None:
    """Adds :data:`PUBLIC_TARGETS` to NeMo's allow-list, and refuses everything else in this package."""
    targets = getattr(common, ALLOW_LIST, None)
    if isinstance(targets, list):
        targets.extend(target for target in PUBLIC_TARGETS if target not in targets)
    original = getattr(common, '_is_target_allowed', None)
    if original is None or hasattr(original, MARK):
        return

    @functools.wraps(original)
    def is_target_allowed(target: str) -> bool:
        # NeMo compares prefixes, so an admitted class would also admit the methods that it inherits from NeMo's mixins.
        # NeMo 2 would refuse the callbacks, which are no modules, although they are on the list.
        if target.startswith('nemo_oracle_kd'):
            return target in PUBLIC_TARGETS
        return original(target)

    setattr(is_target_allowed, MARK, original)
    common._is_target_allowed = is_target_allowed
