# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Reads the joint of a NeMo transducer as plain tensors: its projections and its output layer.

`RNNTJoint` computes `W activation(enc(encoder) + pred(prediction)) + b`. A lattice divergence needs the two projections, W
and b, all with the student's gradient, but never the tensor `[B, T, U+1, V]` that the joint computes from them. Joints that
compute something else are refused before training.
"""

from collections.abc import Iterator
from inspect import getattr_static
from typing import Any

from torch import Tensor, nn

from nemo_oracle_kd.functional.lattice.joint import JointTensors

__all__ = [
    'joint_dropout',
    'joint_problems',
    'joint_tensors',
]

#: methods that define a joint; a class that overrides one of them computes another lattice
_JOINT_METHODS = ('forward', 'joint', 'project_encoder', 'project_prednet', 'joint_after_projection')
_ACTIVATIONS = {nn.ReLU: 'relu', nn.Tanh: 'tanh', nn.Sigmoid: 'sigmoid'}


def joint_dropout(model: Any) -> float:
    """Probability with which the joint drops a hidden unit in training."""
    return max((float(layer.p) for layer in model.joint.joint_net if isinstance(layer, nn.Dropout)), default=0.0)


def joint_problems(model: Any, role: str, training: bool) -> Iterator[str]:
    """Reasons why the lattice of a model cannot be computed from `joint_tensors`, each as a sentence with the fix.

    Args:
        model: a NeMo transducer.
        role: 'student' or 'teacher', for the messages.
        training: whether the joint will be in training mode. Prediction outputs are masked only there.
    """
    from nemo.collections.asr.modules.rnnt import RNNTJoint

    joint = model.joint
    # static, because NeMo's type checking creates a new wrapper at every look-up
    changed = [n for n in _JOINT_METHODS if getattr_static(type(joint), n, None) is not getattr_static(RNNTJoint, n)]
    layers = list(getattr(joint, 'joint_net', ()))
    known = len(layers) in (2, 3) and type(layers[0]) in _ACTIVATIONS and type(layers[-1]) is nn.Linear
    if changed or not known or (len(layers) == 3 and not isinstance(layers[1], nn.Dropout)):
        yield (
            f"the {role}'s joint is a {type(joint).__name__}, and lattice objectives support only NeMo's RNNTJoint: build the "
            f"{role} with model.joint._target_=nemo.collections.asr.modules.RNNTJoint"
        )
        return
    if joint.get_enabled_adapters():
        yield (
            f"the {role}'s joint has adapters, which lattice objectives do not compute: disable them with "
            "model.joint.set_enabled_adapters(enabled=False), or put the adapters into the encoder"
        )
    if training and joint.masking_prob > 0:
        yield (
            f"the {role}'s joint masks prediction outputs at random (masking_prob {joint.masking_prob:g}), so its lattice "
            "differs in every step: set model.joint.masking_prob=-1"
        )
    if joint.temperature != 1.0:
        yield (
            f"the {role}'s joint divides its logits by a temperature of {joint.temperature:g}: set joint.temperature back to "
            "1, and the temperature of the objective instead"
        )


def joint_tensors(model: Any, encoded: Tensor, predicted: Tensor | None, dropout: bool = True) -> JointTensors:
    """The joint of a NeMo transducer as tensors, with gradient wherever its inputs and weights have one.

    Args:
        model: a transducer without `joint_problems`.
        encoded: `[B, D, T]` encoder output as passed to the joint.
        predicted: `[B, D', U+1]` output of the prediction network as passed to the joint; `None` for a single position of
            zeros after the projection.
        dropout: whether hidden units are dropped with the joint's own probability while it is in training mode. NeMo's loss
            has another mask.
    """
    joint = model.joint
    output = joint.joint_net[-1]
    encoder = joint.project_encoder(encoded.transpose(1, 2))
    no_prediction = encoder.new_zeros(encoder.shape[0], 1, encoder.shape[2])
    return JointTensors(
        encoder=encoder,
        prediction=no_prediction if predicted is None else joint.project_prednet(predicted.transpose(1, 2)),
        weight=output.weight,
        bias=output.bias,
        activation=_ACTIVATIONS[type(joint.joint_net[0])],
        dropout=joint_dropout(model) if dropout and joint.training else 0.0,
    )
