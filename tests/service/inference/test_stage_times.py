import pytest

from service.inference.stage_times import StageTimes


def test_failed_stage_is_recorded() -> None:
    times = StageTimes()
    with pytest.raises(KeyError), times.measure("decode"):
        raise KeyError
    assert times["decode"] >= 0
