# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Knowledge distillation for NeMo speech recognition, with teachers that also read the transcript.

Importing the package is cheap: it imports neither torch nor NeMo.  It only makes sure that NeMo, whenever it is
imported, accepts our classes in its configuration files (see :mod:`nemo_oracle_kd.bridge.register.nemo`).
"""

from nemo_oracle_kd.bridge.register.nemo import register
from nemo_oracle_kd.bridge.register.rnnt_losses import register_rnnt_loss
from nemo_oracle_kd.bridge.register.transducer_losses import register_transducer_losses

__version__ = '0.1.0'

__all__ = ['__version__', 'register', 'register_rnnt_loss']

register()
register_transducer_losses()
