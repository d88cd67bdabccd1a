"""One run in one process or in several: torchrun starts each with the same arguments, and only the main one writes."""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

T = TypeVar("T")

# The others wait while the main process encodes photos or evaluates, for longer than the half hour that is usual.
_PATIENCE = timedelta(days=1)


def join_processes() -> PartialState:
    """Meet the other processes of this run, if there are any, and take this one's device."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)


def on_main_process(work: Callable[[], T]) -> T:
    """Do ``work`` in the main process alone, while the others wait for its result.

    Raises:
        ValueError: in the others, when the main process raised an error, which is what it raises itself.
    """
    if join_processes().num_processes == 1:
        return work()
    failure: Exception | None = None
    outcome: list[tuple[T | None, str | None]] = [(None, None)]
    if join_processes().is_main_process:
        try:
            outcome = [(work(), None)]
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must not wait for ever
            failure, outcome = error, [(None, str(error))]
    result, message = broadcast_object_list(outcome)[0]
    if failure is not None:
        raise failure
    if message is not None:
        raise ValueError(message)
    return result  # type: ignore[no-any-return]
