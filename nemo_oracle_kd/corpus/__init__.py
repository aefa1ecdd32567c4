# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Speech corpora: NeMo manifests, and a synthetic corpus made from the eSpeak NG voices.

Only the manifest helper is imported here, so that evaluation code does not load the synthesiser. The rest is
imported by name: :mod:`~nemo_oracle_kd.corpus.synthesis` (the whole job),
:mod:`~nemo_oracle_kd.corpus.settings`, :mod:`~nemo_oracle_kd.corpus.utterances` (one utterance),
:mod:`~nemo_oracle_kd.corpus.espeak` (the driver), :mod:`~nemo_oracle_kd.corpus.texts`,
:mod:`~nemo_oracle_kd.corpus.voices` and :mod:`~nemo_oracle_kd.corpus.acoustics`.
"""

from nemo_oracle_kd.corpus.manifest import ManifestError, read_manifest, resolve_audio_path, write_manifest

__all__ = ['ManifestError', 'read_manifest', 'resolve_audio_path', 'write_manifest']
