# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The output of a transducer's encoder as it is kept, and the part of its joint by which it becomes logits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.bridge.joint import joint_tensors
from nemo_oracle_kd.bridge.signals import EncodedAudio, Transcripts
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.functional import JOINT_ACTIVATIONS, JointTensors
from nemo_oracle_kd.teacher_cache.shards import Field, Utterance
from nemo_oracle_kd.teacher_cache.signals import CachedSignal, Measured, Record, padded

__all__ = ['EncoderSignal', 'JointOfCache']


class EncoderSignal(CachedSignal):
    """The outputs of the encoder, frame by frame."""

    name = 'encoder'
    head = 'transducer'
    family = 'lattice'

    @property
    def fields(self) -> dict[str, Field]:
        """The values of a frame."""
        return {'encoded': Field(self.facts.encoder_size, self.number)}

    def record(self, model: Any, audio: EncodedAudio, transcripts: Transcripts) -> tuple[list[Record], Measured]:
        """The valid frames."""
        frames = audio.encoded.transpose(1, 2)
        return [
            self.stored({'encoded': frames[row, :length]}) for row, length in enumerate(audio.lengths.tolist())
        ], {}

    def answer(self, utterances: Sequence[Utterance], transcripts: Transcripts) -> EncodedAudio:
        """The encoder's outputs."""
        device = transcripts.labels.device
        lengths = torch.tensor([one.frames for one in utterances], device=device)
        encoded = padded([one.data['encoded'] for one in utterances], device)
        return EncodedAudio(lengths, encoded=encoded.transpose(1, 2))


class JointOfCache:
    """The joint of a teacher as far as encoder objectives read it: without its prediction network.

    Args:
        tensors: name -> tensor, as :meth:`of_model` makes them.

    Raises:
        ConfigError: tensors are missing or do not fit together.
    """

    FILE = 'joint.safetensors'

    def __init__(self, tensors: dict[str, Tensor], encoder_size: int, outputs: int):
        hidden = tensors['projection'].shape[0] if 'projection' in tensors else -1
        shapes = {
            'projection': (hidden, encoder_size),
            'shift': (hidden,),
            'weight': (outputs, hidden),
            'bias': (outputs,),
            'activation': (1,),
        }
        sound = set(tensors) == set(shapes) and all(
            tuple(tensors[name].shape) == shape for name, shape in shapes.items()
        )
        sound = sound and 0 <= int(tensors['activation']) < len(JOINT_ACTIVATIONS)
        if not sound or not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise ConfigError(
                "the joint in the cache does not fit the teacher that its index describes: copy the cache again, or cache the "
                "teacher again"
            )
        self.tensors = tensors

    @staticmethod
    def of_model(model: Any) -> dict[str, Tensor]:
        """The tensors of a NeMo transducer: the projection of its encoder and its output layer."""
        size = int(model.joint.encoder_hidden)
        weight = model.joint.joint_net[-1].weight
        basis = torch.cat([torch.zeros(1, size), torch.eye(size)]).to(weight).t().unsqueeze(0)
        joint = joint_tensors(model, basis, None, dropout=False)
        shift = joint.encoder[0, 0]
        bias = weight.new_zeros(len(weight)) if joint.bias is None else joint.bias
        return {
            'projection': (joint.encoder[0, 1:] - shift).t().cpu().contiguous(),
            'shift': shift.cpu().contiguous(),
            'weight': joint.weight.detach().cpu().contiguous(),
            'bias': bias.detach().cpu().contiguous(),
            'activation': torch.tensor([JOINT_ACTIVATIONS.index(joint.activation)]),
        }

    @classmethod
    def read(cls, path: Path, encoder_size: int, outputs: int) -> 'JointOfCache':
        """Reads the file of a cache.

        Raises:
            ConfigError: it cannot be read.
        """
        from safetensors.torch import load_file

        try:
            tensors = load_file(str(path))
        except Exception as error:  # the library's own error, and OSError
            raise ConfigError(
                f"{path} cannot be read ({str(error).splitlines()[0][:120]}): copy the cache again"
            ) from None
        return cls(tensors, encoder_size, outputs)

    def of_encoded(self, encoded: Tensor) -> JointTensors:
        """The joint for the encoder's outputs `[B, D, T]`, with a single position of zeros after the projection."""
        own = {name: tensor.to(encoded.device) for name, tensor in self.tensors.items()}
        encoder = torch.nn.functional.linear(
            encoded.transpose(1, 2).to(own['weight'].dtype), own['projection'], own['shift']
        )
        return JointTensors(
            encoder=encoder,
            prediction=encoder.new_zeros(encoder.shape[0], 1, encoder.shape[2]),
            weight=own['weight'],
            bias=own['bias'],
            activation=JOINT_ACTIVATIONS[int(self.tensors['activation'])],
        )
