# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Settings of all tests: one thread, quiet logging."""

import gc
import logging
import os
import signal
import sys
import warnings
from pathlib import Path

# Before torch is imported: more threads than work make tiny tensors slower.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MKL_NUM_THREADS', '1')
os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')
os.environ.setdefault('HYDRA_FULL_ERROR', '1')
os.environ.setdefault('MPLBACKEND', 'Agg')

import pytest  # noqa: E402


def pytest_configure(config):
    # A third of what an import of NeMo takes is the search for garbage.
    gc.disable()
    # A shell that starts the tests in the background makes them, and what they start, deaf to Ctrl-C; some test it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.getLogger('nemo_logger').setLevel(logging.ERROR)
    for name in ('lightning.pytorch', 'lightning.fabric', 'numba', 'matplotlib'):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings('ignore', message='.*number of training batches.*')


#: files of more than ten seconds, the longest first: the processes of the suite then end at about the same time
SLOWEST_FIRST = (
    'tests/test_packaging.py',
    'tests/cli/test_score.py',
    'tests/callbacks/test_full_sum.py',
    'tests/corpus/test_synthesis.py',
    'tests/callbacks/test_lattice_distillation.py',
    'tests/evaluation/diagnosis/test_transducers.py',
    'tests/evaluation/diagnosis/test_diagnosis.py',
    'tests/callbacks/test_stock_student.py',
    'tests/losses/test_nemo_cuda_kernels.py',
    'tests/functional/lattice/test_triton.py',
    'tests/corpus/test_corruption.py',
    'tests/bridge/rows/test_batch.py',
    'tests/experiments/test_runner.py',
    'tests/examples/test_noisy_teachers.py',
    'tests/models/test_oracle_rnnt_models.py',
    'tests/distillation/test_distiller.py',
    'tests/docs/test_tutorial.py',
)


def pytest_collection_modifyitems(items):
    missing = [file for file in SLOWEST_FIRST if not (Path(__file__).parents[1] / file).is_file()]
    if missing:
        raise pytest.UsageError(f"tests/conftest.py puts files first that do not exist: {', '.join(missing)}")
    rank = {file: number for number, file in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.nodeid.split('::')[0], len(rank)))


def pytest_collection_finish(session):
    gc.freeze()
    gc.enable()
    gc.set_threshold(100_000, 20, 50)
    # NeMo's telemetry has nobody to tell, and clears all caches of `logging` at each of its many steps.
    telemetry = sys.modules.get('nemo.lightning.callback_group')
    if telemetry is not None:
        telemetry.CallbackGroup.get_instance()._callbacks.clear()
    results = sys.modules.get('lightning.pytorch.trainer.connectors.logger_connector.result')
    if results is not None:
        _move_logged_numbers_only_where_they_are_not(results._ResultMetric)


def _move_logged_numbers_only_where_they_are_not(metric):
    """Lightning copies all that it knows of a number, at each call of `log`, to move it to the device where it is."""
    move = metric.to

    def to(self, device, *args, **kwargs):
        return self if self.is_tensor and device == self.value.device else move(self, device, *args, **kwargs)

    metric.to = to


def pytest_runtest_setup(item):
    if item.get_closest_marker('gpu'):
        import torch

        if not torch.cuda.is_available():
            pytest.skip('needs a CUDA GPU')


@pytest.fixture(autouse=True)
def _one_thread_and_a_fixed_seed():
    """Every test starts from the same seed, so that its outcome does not depend on which tests ran before."""
    import torch

    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def forked_workers(monkeypatch):
    """Commands fork their workers, because a fresh interpreter takes seconds."""
    import forks

    forks.fork_workers(monkeypatch)


@pytest.fixture(scope='session')
def tone_corpus(tmp_path_factory):
    """Manifest of 16 training utterances of tones (see tests/helpers/tiny.py)."""
    import tiny
    from built_once import built_once

    return (
        built_once(tmp_path_factory, 'tones', lambda folder: tiny.write_tone_corpus(folder, 'train', 16))
        / 'train.jsonl'
    )


@pytest.fixture(scope='session')
def tone_teacher(tone_corpus, tmp_path_factory):
    """A CTC teacher that has learned the tones, as a `.nemo` file."""
    import tiny
    from built_once import built_once

    def build(folder):
        trainer = tiny.trainer(80)
        model = tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=48), trainer)
        trainer.fit(model)
        model.save_to(str(folder / 'teacher.nemo'))

    return built_once(tmp_path_factory, 'teacher', build) / 'teacher.nemo'


@pytest.fixture(scope='session')
def scored_tones(tone_corpus, tone_teacher, tmp_path_factory):
    """Folder of the corpus as the teacher labels it (decode.jsonl, four texts each) and as it scores it (reference.jsonl)."""
    from built_once import built_once

    from nemo_oracle_kd.bridge.restore import restore_frozen
    from nemo_oracle_kd.labelling.manifest import score_manifest
    from nemo_oracle_kd.labelling.model_scorer import model_scorer
    from nemo_oracle_kd.labelling.scorer import ScoringSettings

    def build(folder):
        teacher = restore_frozen(str(tone_teacher))
        for name, settings in {'decode': {'nbest': 4}, 'reference': {'source': 'reference'}}.items():
            score_manifest(model_scorer(teacher, ScoringSettings(**settings)), tone_corpus, folder / f'{name}.jsonl')

    return built_once(tmp_path_factory, 'scored', build)
