import torch

from medgan.networks import device as devices
from medgan.networks.device import uses_bf16


def test_auto_takes_what_a_convolution_is_faster_in(monkeypatch):
    seconds = {torch.bfloat16: 2.0, torch.float32: 1.0}
    monkeypatch.setattr(devices, "_seconds", lambda layer, kind: seconds[kind])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for faster in (False, True):
        devices.bf16_is_faster.cache_clear()
        seconds[torch.bfloat16] = 0.5 if faster else 2.0
        assert uses_bf16("auto", "auto") is faster
    devices.bf16_is_faster.cache_clear()


def test_what_is_asked_for_is_not_measured(monkeypatch):
    monkeypatch.setattr(devices, "bf16_is_faster", lambda: 1 / 0)
    assert uses_bf16("bf16", "cpu")
    assert not uses_bf16("fp32", "cpu")


def test_a_gpu_with_bf16_uses_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert uses_bf16("auto", "auto")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert not uses_bf16("auto", "cuda")


def test_both_are_timed():
    devices.bf16_is_faster.cache_clear()
    assert devices.bf16_is_faster() in (True, False)
