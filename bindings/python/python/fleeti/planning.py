"""Rollouts in waves: write a plan and see which device is in which wave, without a server.

>>> waves = plan("1", "10%", "100%", soak_s=3600)
>>> [wave.size for wave in waves.waves][0]
RolloutWaveSizeCount(devices=1, type='count')
>>> [len(wave) for wave in preview(waves, "rollout-1", [f"device-{n}" for n in range(50)])]
[1, 4, 45]
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from . import _base, _fleeti
from . import models as m


def plan(
    *waves: str,
    soak_s: int = 0,
    errors_max: str = "0",
    by_hand: bool = False,
    abort_on_error: bool = False,
    moving_max: int | None = None,
    rate: m.RolloutRate | None = None,
    budget: str | None = None,
    retries: int = 0,
) -> m.RolloutPlan:
    """A plan of waves: a number of devices (`1`), a part of the fleet (`10%`), `devices:ID,ID`, or
    `filter:site=lab`.

    Sizes include the waves before; the last one is `100%`. `soak_s` is the time between the success
    of a wave and the next one, `errors_max` the number or part of errors that is accepted. With
    `by_hand`, an operator begins each wave after the first. `budget` is `LABEL:2` or `LABEL:80%`: so
    many of the devices with the same value of the label do not update. `retries` is how often a
    device that fails is offered the release again. Raises `InvalidError`.
    """
    start = m.RolloutWaveStartByHand() if by_hand else m.RolloutWaveStartAfterSuccess()
    sizes = json.loads(_fleeti.wave_sizes(list(waves)))
    made = m.RolloutPlan(
        waves=[
            m.RolloutWave(
                size=m._read_RolloutWaveSize(size),
                start=start if n > 0 else m.RolloutWaveStartAfterSuccess(),
                soak_s=soak_s,
            )
            for n, size in enumerate(sizes)
        ],
        errors_max=m._read_RolloutErrorsMax(json.loads(_fleeti.errors_max(errors_max))),
        on_error="abort" if abort_on_error else "pause",
        moving_max=moving_max,
        rate=rate,
        budget=(
            m.RolloutBudget._read(json.loads(_fleeti.budget(budget))) if budget is not None else None
        ),
        retries=retries,
    )
    check(made)
    return made


def check(plan: m.RolloutPlan) -> None:
    """Checks a plan as the server does. Raises `InvalidError` with the first part that is wrong."""
    _fleeti.plan_check(_base.content(plan) or b"")


def cohort(rollout: str, device: str) -> int:
    """The place of a device in a rollout: devices with the lowest come first."""
    return _fleeti.cohort(rollout, device)


def preview(plan: m.RolloutPlan, rollout: str, devices: Iterable[str]) -> list[list[str]]:
    """The devices of each wave if all of them are reached, in the order in which they come.

    Which devices a filter matches is known to a server alone: such a wave is empty here.
    """
    return _fleeti.plan_preview(_base.content(plan) or b"", rollout, list(devices))
