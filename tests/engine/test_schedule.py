"""The SGD rate against golden values and its fixed points."""

import pytest

from engine.schedule import sgd_lr
from tests import golden


def test_rates_match_golden() -> None:
    for name, rates in golden.load("sgd_lr").items():
        base_lr = float(name.split("_")[0].removeprefix("base"))
        for iteration, rate in enumerate(rates.tolist(), start=1):
            assert sgd_lr(base_lr, iteration, 100, 20) == pytest.approx(rate, rel=1e-9)


def test_warmup_ends_at_the_decayed_rate_and_the_run_at_zero() -> None:
    assert sgd_lr(0.1, 100, 100, 10) == 0
    assert sgd_lr(0.1, 10, 100, 10, lr_scale=1) == pytest.approx(0.1 * 0.9**0.9)
    assert sgd_lr(0.1, 1, 100, 0, lr_scale=1, power=1) == pytest.approx(0.099)
