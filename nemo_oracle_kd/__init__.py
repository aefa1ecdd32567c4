# Copyright (c) 2026, the nemo_oracle_kd authors.  All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Knowledge distillation for NeMo speech recognition, with teachers that also read the transcript.

Importing the package is cheap: it imports neither torch nor NeMo.  It only makes sure that NeMo, whenever it is
imported, accepts our classes in its configuration files (see :mod:`nemo_oracle_kd.bridge.registration`).
"""

from nemo_oracle_kd.bridge.registration import register
from nemo_oracle_kd.bridge.transducer_losses import register_transducer_losses

__version__ = '0.1.0'

__all__ = ['__version__', 'register']

register()
register_transducer_losses()
