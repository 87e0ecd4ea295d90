"""What stands beside figures of time, and in which precision networks answer."""

import contextlib
import platform

import pytest
import torch

from clickseg import machine
from clickseg.machine import describe_machine, memory_bytes
from clickseg.precision import answering, has_bfloat16, one_thread


def test_a_machine_is_described_and_not_named(monkeypatch):

    told = describe_machine()
    assert set(told) == {"processor", "cores", "gpu", "threads", "bfloat16"}
    assert told["bfloat16"] is has_bfloat16("cpu")
    assert told["processor"]
    assert told["cores"] >= 1
    assert told["threads"] == torch.get_num_threads()
    assert platform.node() not in told.values()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert describe_machine()["gpu"] == "none"


def test_a_container_may_have_less_memory_than_its_machine(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "_MEMORY_LIMITS", (limit, tmp_path / "none"))
    whole = memory_bytes()
    assert whole > 1 << 28
    for text, told in (("max\n", whole), ("134217728\n", 1 << 27), (f"{1 << 62}\n", whole)):
        limit.write_text(text)
        assert memory_bytes() == told


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_that_emulates_bfloat16_does_not_compute_in_it(supported, monkeypatch):
    asked = []

    def is_supported(including_emulation=True):
        asked.append(including_emulation)
        return supported or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    assert has_bfloat16("cuda:1") is supported
    assert asked == [False]


@pytest.mark.parametrize("supported", [True, False])
def test_networks_answer_in_the_precision_of_the_device(supported, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported, raising=False)
    assert has_bfloat16("cpu") is supported
    with answering("cpu"):
        out = torch.nn.Linear(3, 2)(torch.ones(1, 3))
    assert out.dtype == (torch.bfloat16 if supported else torch.float32)
    assert torch.nn.Linear(3, 2)(torch.ones(1, 3)).dtype == torch.float32


def test_another_number_of_threads_comes_back_after_an_error():
    before = torch.get_num_threads()

    def fail():
        with one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError

    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError):
            fail()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
