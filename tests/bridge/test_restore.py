# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A second model restored beside the first leaves no trace in NeMo's state or in the random stream."""

import socket

import pytest
import torch

from nemo_oracle_kd.bridge.restore import check_source, restore_frozen


def test_a_restored_teacher_is_frozen_in_eval_mode_and_has_no_data(tone_teacher):
    model = restore_frozen(str(tone_teacher))
    assert not model.training and not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert 'train_ds' not in model.cfg and getattr(model, '_train_dl', None) is None


def test_restoring_keeps_the_application_state_and_the_random_stream(tone_teacher):
    from nemo.utils.app_state import AppState

    state = AppState()
    before = (state.is_model_being_restored, state.nemo_file_folder, state.model_restore_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    restore_frozen(str(tone_teacher))
    assert (state.is_model_being_restored, state.nemo_file_folder, state.model_restore_path) == before
    assert torch.equal(torch.rand(3), expected)


def test_a_path_that_does_not_exist_is_refused_with_the_working_directory():
    with pytest.raises(FileNotFoundError, match="no model at 'missing/teacher.nemo'.*give the path"):
        check_source('missing/teacher.nemo')


def test_a_wrong_name_of_a_pretrained_model_is_refused_with_the_nearest_names():
    with pytest.raises(
        FileNotFoundError, match='no pretrained model of this name.*nearest names: stt_en_citrinet_256'
    ):
        check_source('stt_en_citrinett_256')
    with pytest.raises(FileNotFoundError, match='lists no pretrained model of this name: give the path of a .nemo'):
        check_source('qqqqqqqq')
    check_source('stt_en_citrinet_256')


def test_the_callback_refuses_a_wrong_name_before_anything_starts():
    from nemo_oracle_kd.callbacks import KnowledgeDistillation

    with pytest.raises(FileNotFoundError, match='nearest names: stt_en_citrinet_256'):
        KnowledgeDistillation(teacher={'restore_from': 'stt_en_citrinett_256'}, objectives={'frame_kl': {}})


@pytest.mark.parametrize('name', ['stt_en_citrinet_256', 'nvidia/there-is-no-such-model'])
def test_a_model_that_cannot_be_fetched_is_told_in_a_sentence(name, monkeypatch, tmp_path):
    def no_network(*arguments, **keywords):
        raise socket.gaierror('Name or service not known')

    monkeypatch.setattr(socket, 'getaddrinfo', no_network)
    monkeypatch.setenv('NEMO_CACHE_DIR', str(tmp_path))  # nothing was downloaded before
    with pytest.raises(
        FileNotFoundError, match=f"the pretrained model '{name}' could not be fetched .*network, or give"
    ):
        restore_frozen(name)


def test_a_file_that_is_no_archive_is_no_teacher(tmp_path):
    (tmp_path / 'broken.nemo').write_text('half a download')
    with pytest.raises(ValueError, match='cannot be read as a .nemo file: give a file saved by'):
        check_source(str(tmp_path / 'broken.nemo'))
