# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A distilled student where this package is not installed: it restores, holds no teacher, and transcribes."""

import json

import pytest
import tiny
from clean_environment import CleanEnvironment

from nemo_oracle_kd.callbacks import KnowledgeDistillation

TRANSCRIBE = """
import gc, importlib.util, json, sys

gc.disable()  # or a third of the start would go into a search for garbage

assert importlib.util.find_spec('nemo_oracle_kd') is None, 'the package is installed here'
from nemo.collections.asr.models import ASRModel

model = ASRModel.restore_from('student.nemo', map_location='cpu')
texts = model.transcribe(sys.argv[1:], batch_size=4, num_workers=0, verbose=False)
answer = {
    'class': type(model).__module__ + '.' + type(model).__name__,
    'keys': sorted(model.state_dict()),
    'texts': [text if isinstance(text, str) else text.text for text in texts],
}
json.dump(answer, open('answer.json', 'w'))
"""


@pytest.mark.integration
def test_a_distilled_student_transcribes_without_this_package_as_it_does_with_it(tone_corpus, tone_teacher, tmp_path):
    environment = CleanEnvironment(tmp_path / 'venv')
    callback = KnowledgeDistillation(
        {'restore_from': str(tone_teacher)}, {'frame_kl': {'weight': 1.0}}, label_loss={'weight': 0.0}
    )
    trainer = tiny.trainer(80, callbacks=[callback])
    student = tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=48), trainer)
    trainer.fit(student)
    student.save_to(str(tmp_path / 'student.nemo'))
    audio = [json.loads(line)['audio_filepath'] for line in tone_corpus.read_text().splitlines()]

    environment.run(environment.python, '-c', TRANSCRIBE, *audio, cwd=tmp_path)

    there = json.loads((tmp_path / 'answer.json').read_text())
    assert there['class'] == 'nemo.collections.asr.models.ctc_models.EncDecCTCModel'
    assert there['keys'] == sorted(student.state_dict())
    here = student.transcribe(audio, batch_size=4, num_workers=0, verbose=False)
    assert there['texts'] == [text if isinstance(text, str) else text.text for text in here]
    assert sum(map(bool, there['texts'])) > len(audio) / 2, "the student has learned to say something"
