# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Kills `nemo-oracle-kd score` in the middle, for tests that a second start continues the run and ends with the same bytes."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import forks

from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.labelling.files import journal_path
from nemo_oracle_kd.labelling.format import header_path


def kill_in_the_middle(words: Sequence[str], manifest: Path, output: Path, least: int = 5) -> int:
    """Starts `score` in a fork and kills it after at least `least` batches of one row; returns how many rows were done.

    A line that the kill cuts in two is added to the journal.
    """
    command = [sys.executable, '-m', 'nemo_oracle_kd', *map(str, words)]
    process = forks.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = journal_path(output)
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b'\n') > least):
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not output.exists(), 'the kill came too late to test anything'
    done = journal.read_bytes().count(b'\n') - 1
    assert least <= done < len(read_manifest(manifest))
    with journal.open('ab') as file:
        file.write(b'[[3, {"text": "ab')
    return done


def assert_it_continues(words: Sequence[str], output: Path, whole: Path) -> None:
    """The same command again ends with the bytes of a run that nothing disturbed, and leaves no journal."""
    assert main(list(map(str, words))) == 0
    assert output.read_bytes() == whole.read_bytes()
    assert json.loads(header_path(output).read_text()) == json.loads(header_path(whole).read_text())
    assert not journal_path(output).exists()
