# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The five commands of `docs/unlabelled_speech.md` run as they stand, from a folder of WAV files to a distilled student."""

import shlex
import shutil
import sys

import forks
import pytest
from doc_commands import blocks, typed
from load_script import ROOT

from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.corpus.manifest import read_manifest

PAGE = ROOT / 'docs' / 'unlabelled_speech.md'


@pytest.mark.integration
def test_a_folder_of_wav_files_and_a_checkpoint_become_a_student_in_five_commands(
    tone_teacher, tone_corpus, tmp_path, monkeypatch, capfd
):
    walk = blocks(PAGE, 'bash')[0].replace('\\\n', '').splitlines()
    assert len(walk) == 5 and all(' '.join(line.split()) in {one.text for one in typed(PAGE)} for line in walk)
    (tmp_path / 'recordings').mkdir()
    for number, row in enumerate(read_manifest(tone_corpus)):
        shutil.copy(row['audio_filepath'], tmp_path / 'recordings' / f'{number}.wav')
    shutil.copy(tone_teacher, tmp_path / 'teacher.nemo')
    (tmp_path / 'examples').symlink_to(ROOT / 'examples')
    monkeypatch.chdir(tmp_path)
    for line in walk:
        program, *words = shlex.split(line)
        if program == 'nemo-oracle-kd':
            assert main(words) == 0, line
        else:
            ended = forks.run([sys.executable, *words], cwd=tmp_path)
            assert program == 'python' and ended.returncode == 0, ended.stderr[-2000:]
    assert len(read_manifest('speech.jsonl', require_text=False)) == 16 > len(read_manifest('kept.jsonl')) > 8
    printed = capfd.readouterr().out
    assert 'speech.jsonl: 16 recordings' in printed and 'student' in printed.splitlines()[-1]
