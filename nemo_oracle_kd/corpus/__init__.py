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

"""Speech corpora: NeMo manifests, and a synthetic corpus made from the eSpeak NG voices.

Only the manifest helper is imported here, so that evaluation code does not load the synthesiser. The rest is
imported by name: :mod:`~nemo_oracle_kd.corpus.synthesis` (the whole job),
:mod:`~nemo_oracle_kd.corpus.settings`, :mod:`~nemo_oracle_kd.corpus.utterances` (one utterance),
:mod:`~nemo_oracle_kd.corpus.espeak` (the driver), :mod:`~nemo_oracle_kd.corpus.texts`,
:mod:`~nemo_oracle_kd.corpus.voices` and :mod:`~nemo_oracle_kd.corpus.acoustics`.
"""

from nemo_oracle_kd.corpus.manifest import ManifestError, read_manifest, resolve_audio_path, write_manifest

__all__ = ['ManifestError', 'read_manifest', 'resolve_audio_path', 'write_manifest']
