# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The Python of `docs/pseudo_labels.md` runs as it stands, and what it says of gradients is true."""

import json
import re
import shutil
from pathlib import Path

import torch

PAGE = (Path(__file__).parents[2] / 'docs' / 'pseudo_labels.md').read_text(encoding='utf-8')


def test_the_example_scores_two_utterances_and_is_differentiable(tone_teacher, tone_corpus, tmp_path, monkeypatch):
    (code,) = re.findall(r'```python\n(.*?)```', PAGE, re.S)
    rows = [json.loads(line) for line in tone_corpus.read_text().splitlines()[:2]]
    for name, row in zip(('a.wav', 'b.wav'), rows):
        shutil.copy(row['audio_filepath'], tmp_path / name)
    shutil.copy(tone_teacher, tmp_path / 'teacher.nemo')
    monkeypatch.chdir(tmp_path)
    # the words of the page are not in the alphabet of the tones
    for word, text in (('one two', rows[0]['text']), ('one too', 'dd'), ('three', rows[1]['text'])):
        assert word in code
        code = code.replace(word, text)
    names = {}
    exec(compile(code, 'pseudo_labels.md', 'exec'), names)
    scores = names['log_probs']
    assert scores.shape == (2, 2) and scores[1, 1] == -torch.inf and not scores.requires_grad
    assert scores[0, 0] > scores[0, 1] and scores[1, 0].isfinite()
    names['model'].requires_grad_(True)
    scores = names['score_labels'](names['model'], names['head'], names['batch'], names['hypotheses'])
    scores[0, 0].backward()
    assert any(parameter.grad.abs().sum() > 0 for parameter in names['model'].parameters())
