# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Registration with NeMo: narrow, idempotent, and independent of who is imported first."""

import importlib
import subprocess
import sys

import pytest
import torch
from nemo.collections.asr.losses import rnnt as nemo_rnnt
from nemo.collections.asr.losses.rnnt import RNNTLoss
from nemo.core.classes import common
from omegaconf import OmegaConf

import nemo_oracle_kd
from nemo_oracle_kd import register_rnnt_loss
from nemo_oracle_kd.bridge.register import rnnt_losses, targets
from nemo_oracle_kd.errors import ConfigError

ALLOWED = getattr(common, targets.ALLOW_LIST)


class RecursiveRNNTLoss(torch.nn.Module):
    """A transducer loss in ten lines: the forward recursion over the lattice, cell by cell."""

    def __init__(self, blank, scale=1.0):
        super().__init__()
        self.blank, self.scale, self.reduction = blank, scale, 'none'

    def forward(self, acts, labels, act_lens, label_lens):
        log_probs = acts.log_softmax(dim=-1)
        utterances = zip(log_probs, labels, act_lens.tolist(), label_lens.tolist())
        return self.scale * torch.stack([self._one(*utterance) for utterance in utterances])

    def _one(self, log_probs, labels, frames, count):
        alpha = {(0, 0): log_probs.new_zeros(())}
        for t in range(frames):
            for u in range(count + 1):
                ways = []
                if t > 0:
                    ways.append(alpha[t - 1, u] + log_probs[t - 1, u, self.blank])
                if u > 0:
                    ways.append(alpha[t, u - 1] + log_probs[t, u - 1, labels[u - 1]])
                if ways:
                    alpha[t, u] = torch.logsumexp(torch.stack(ways), dim=0)
        return -(alpha[frames - 1, count] + log_probs[frames - 1, count, self.blank])


@pytest.fixture
def rnnt_loss_name():
    """A free name; whatever is registered under it is removed afterwards."""
    name = 'recursive_rnnt'
    yield name
    rnnt_losses._RNNT_LOSSES.pop(name, None)
    nemo_rnnt.RNNT_LOSS_RESOLVER.pop(name, None)


@pytest.fixture
def rnnt_batch():
    return {
        'log_probs': torch.randn(2, 5, 4, 6).log_softmax(dim=-1),
        'targets': torch.tensor([[0, 3, 3], [4, 1, 0]]),
        'input_lengths': torch.tensor([5, 4]),
        'target_lengths': torch.tensor([3, 2]),
    }


def test_nemo_accepts_our_targets_and_nothing_that_only_looks_like_ours():
    assert targets.is_registered()
    assert common._is_target_allowed('nemo_oracle_kd.callbacks.KnowledgeDistillation')
    for target in ('nemo_oracle_kd_evil.Callback', 'os.system', 'subprocess.Popen', 'builtins.eval'):
        assert not common._is_target_allowed(target)


def test_nemos_list_of_functions_stays_as_it_was():
    assert not any('oracle' in prefix for prefix in getattr(common, 'ALLOWED_CALLABLE_PREFIXES', ()))


def test_registering_again_changes_nothing():
    functions = (nemo_rnnt.resolve_rnnt_loss, importlib.import_module('nemo.utils.trainer_utils').resolve_trainer_cfg)
    nemo_oracle_kd.register()
    nemo_oracle_kd.register()
    assert [ALLOWED.count(target) for target in targets.PUBLIC_TARGETS] == [1] * len(targets.PUBLIC_TARGETS)
    assert functions == (nemo_rnnt.resolve_rnnt_loss, sys.modules['nemo.utils.trainer_utils'].resolve_trainer_cfg)


def test_registration_works_when_nemo_is_imported_already():
    for target in targets.PUBLIC_TARGETS:
        ALLOWED.remove(target)
    assert not targets.is_registered()
    nemo_oracle_kd.register()
    assert [ALLOWED.count(target) for target in targets.PUBLIC_TARGETS] == [1] * len(targets.PUBLIC_TARGETS)


@pytest.mark.parametrize('order', ['hook first', 'module first', 'in the middle of the import'])
def test_a_hook_sees_the_complete_module_whenever_it_is_registered(order, tmp_path):
    # A fresh interpreter: import hooks and import state are global.
    (tmp_path / 'after.py').write_text("")
    (tmp_path / 'target.py').write_text(
        "import watcher\nwatcher.called_in_the_middle()\nALLOWED = ['a']\nimport after\n"
    )
    (tmp_path / 'watcher.py').write_text(
        "from nemo_oracle_kd.bridge.register.import_hooks import when_imported\n"
        "seen = []\n"
        "def hook(module): seen.append(list(module.ALLOWED))\n"
        f"order = {order!r}\n"
        "def called_in_the_middle():\n"
        "    if order == 'in the middle of the import':\n"
        "        when_imported('target', hook); when_imported('target', hook)\n"
    )
    code = (
        "import sys, watcher\n"
        "if watcher.order == 'hook first': watcher.when_imported('target', watcher.hook)\n"
        "import target\n"
        "if watcher.order == 'module first': watcher.when_imported('target', watcher.hook)\n"
        "import json.tool\n"
        "print(watcher.seen, any('Pending' in str(finder) for finder in sys.meta_path))\n"
    )
    result = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.strip() == "[['a']] False", result.stderr


def test_a_registered_transducer_loss_is_chosen_by_its_name_and_equals_nemos(rnnt_loss_name, rnnt_batch):
    register_rnnt_loss(rnnt_loss_name, RecursiveRNNTLoss)
    ours = RNNTLoss(num_classes=5, reduction='mean_batch', loss_name=rnnt_loss_name)
    nemos = RNNTLoss(num_classes=5, reduction='mean_batch', loss_name='pytorch')
    assert isinstance(ours._loss, RecursiveRNNTLoss)
    assert torch.allclose(ours(**rnnt_batch), nemos(**rnnt_batch), atol=1e-5)


def test_options_of_a_transducer_loss_reach_it_and_unknown_ones_are_refused(rnnt_loss_name, rnnt_batch):
    register_rnnt_loss(rnnt_loss_name, f'{__name__}:RecursiveRNNTLoss')
    doubled = RNNTLoss(num_classes=5, loss_name=rnnt_loss_name, loss_kwargs=OmegaConf.create({'scale': 2.0}))
    single = RNNTLoss(num_classes=5, loss_name=rnnt_loss_name)
    assert torch.allclose(doubled(**rnnt_batch), 2.0 * single(**rnnt_batch))
    with pytest.raises(ConfigError, match="recursive_rnnt_kwargs 'scal'. Did you mean 'scale'"):
        RNNTLoss(num_classes=5, loss_name=rnnt_loss_name, loss_kwargs={'scal': 2.0})


def test_nemos_own_transducer_losses_stay_what_they_are(rnnt_loss_name):
    before = type(RNNTLoss(num_classes=5, loss_name='pytorch')._loss)
    register_rnnt_loss(rnnt_loss_name, RecursiveRNNTLoss)
    assert type(RNNTLoss(num_classes=5, loss_name='pytorch')._loss) is before
    with pytest.raises(ValueError, match="one of NeMo's own"):
        register_rnnt_loss('warprnnt_numba', RecursiveRNNTLoss)
    with pytest.raises(ValueError, match="not in list of available RNNT losses"):
        RNNTLoss(num_classes=5, loss_name='recursive')


def test_a_factory_by_name_needs_module_and_attribute(rnnt_loss_name):
    with pytest.raises(ValueError, match="package.module:attribute"):
        register_rnnt_loss(rnnt_loss_name, 'package.module.attribute')
