# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A module that lives in a student while it is trained, and in nothing that is saved of it.

As a child of the student it is moved, cast, clipped, scaled, synchronised and optimised with it. It is left out of
`state_dict`, hence of the `.nemo` and of the model part of a checkpoint, and `load_state_dict` does not miss it. In the optimizer
part of a checkpoint :class:`GuestParameters` takes it out and puts it back, so that this part, too, is that of the student alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

__all__ = ['GUEST', 'GuestModule', 'GuestParameters', 'invite', 'dismiss']

GUEST = 'oracle_kd_branch'
"""Name of the student's child."""


class GuestModule(nn.Module):
    """Hides a module from `state_dict` and `load_state_dict` of its parent.

    Args:
        module: what is hidden.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.register_load_state_dict_post_hook(_miss_nothing)

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = '', keep_vars: bool = False) -> Any:
        """Nothing: `destination` as it came."""
        return {} if destination is None else destination


def _miss_nothing(module: nn.Module, incompatible: Any) -> None:
    keys = incompatible.missing_keys
    keys[:] = [key for key in keys if GUEST not in key.split('.')]


def invite(student: nn.Module, module: nn.Module) -> None:
    """Makes a module a hidden child of the student, on its device."""
    device = next(student.parameters()).device
    student.add_module(GUEST, GuestModule(module.to(device)))
    student.get_submodule(GUEST).train(student.training)


def dismiss(student: nn.Module) -> None:
    """Takes the child out again."""
    if hasattr(student, GUEST):
        delattr(student, GUEST)


class GuestParameters:
    """The guest's parameters in optimizers and in what checkpoints keep of these.

    Args:
        parameters: of the guest.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]):
        self._ids = {id(parameter) for parameter in parameters}

    def places(self, optimizer: torch.optim.Optimizer) -> list[list[int]]:
        """Positions of the guest's parameters in each group of an optimizer."""
        return [
            [place for place, parameter in enumerate(group['params']) if id(parameter) in self._ids]
            for group in optimizer.param_groups
        ]

    def take_out(
        self, states: Sequence[Mapping[str, Any]], optimizers: Sequence[torch.optim.Optimizer]
    ) -> tuple[list[dict[str, Any]], list[list[Any]]]:
        """Splits the optimizers' state dicts.

        Args:
            states: one state dict per optimizer.
            optimizers: these optimizers, with the guest in them.

        Returns:
            The state dicts as they would be without the guest, and the guest's states in order, per optimizer.
        """
        stock, ours = [], []
        for state, optimizer in zip(states, optimizers):
            kept, taken = [], []
            for group, places in zip(state['param_groups'], self.places(optimizer)):
                hidden = set(places)
                kept.append([key for place, key in enumerate(group['params']) if place not in hidden])
                taken += [state['state'].get(group['params'][place]) for place in places]
            stock.append(_renumbered(state, kept, state['state']))
            ours.append(taken)
        return stock, ours

    def put_back(
        self,
        states: Sequence[Mapping[str, Any]],
        optimizers: Sequence[torch.optim.Optimizer],
        ours: Sequence[Sequence[Any]] = (),
    ) -> list[dict[str, Any]]:
        """The reverse of :meth:`take_out`; without `ours` the guest starts with a fresh state."""
        joined = []
        for number, (state, optimizer) in enumerate(zip(states, optimizers)):
            waiting = list(ours[number]) if number < len(ours) else []
            values, order = dict(state['state']), []
            for group, places in zip(state['param_groups'], self.places(optimizer)):
                keys = list(group['params'])
                for place in places:  # ascending
                    key = ('guest', len(order), place)
                    keys.insert(place, key)
                    if waiting and (value := waiting.pop(0)) is not None:
                        values[key] = value
                order.append(keys)
            joined.append(_renumbered(state, order, values))
        return joined

    def leave(self, optimizers: Sequence[torch.optim.Optimizer]) -> list[list[Any]]:
        """Removes the guest from live optimizers; returns its states as :meth:`take_out` does."""
        _, ours = self.take_out([optimizer.state_dict() for optimizer in optimizers], optimizers)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                for parameter in [parameter for parameter in group['params'] if id(parameter) in self._ids]:
                    optimizer.state.pop(parameter, None)
                group['params'] = [parameter for parameter in group['params'] if id(parameter) not in self._ids]
        return ours


def _renumbered(state: Mapping[str, Any], order: list[list[Any]], values: Mapping[Any, Any]) -> dict[str, Any]:
    """A state dict with its parameters counted anew, as torch counts them: through all groups in order."""
    number = {key: index for index, key in enumerate(key for keys in order for key in keys)}
    groups = [{**group, 'params': [number[key] for key in keys]} for group, keys in zip(state['param_groups'], order)]
    return {**state, 'state': {number[key]: values[key] for key in number if key in values}, 'param_groups': groups}
