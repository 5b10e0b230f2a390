"""What the soak calls flat."""

import numpy as np

from tests.soak import GROWTH, NOISE, QUIET, Sample, flat, judged

SECONDS = [5.0 * n for n in range(720)]


def test_noise_and_warming_up_are_flat() -> None:
    """What rises at first and then swings about a level is flat, whatever single samples say, or where one lacks."""
    rng = np.random.default_rng(1)
    memory = [900 * (1 - np.exp(-t / 120)) + rng.normal(0, 20) for t in SECONDS]
    memory[500], memory[600] = 5000, float("nan")
    fine, grown = flat(SECONDS, memory, NOISE["memory_mb"])
    assert fine
    assert abs(grown) < 20


def test_a_leak_is_not_flat() -> None:
    """A tenth more over the part that is judged is a leak, and is told by how much it grew."""
    rng = np.random.default_rng(1)
    memory = [900 * (1 + 3 * GROWTH * t / SECONDS[-1]) + rng.normal(0, 20) for t in SECONDS]
    fine, grown = flat(SECONDS, memory, NOISE["memory_mb"])
    assert not fine
    assert 80 < grown < 100


def test_one_handle_a_minute_is_not_flat() -> None:
    """Handles that are never given back are seen within the hour."""
    assert not flat(SECONDS, [100 + t // 60 for t in SECONDS], NOISE["handles"])[0]


def sample(seconds: float, latency: float, others: float) -> Sample:
    """Return a sample of nothing but these."""
    none = {"memory_mb": 0.0, "handles": 0.0, "pushed": 0, "completed": 0, "confirmed": 0, "waiting": 0}
    return Sample(seconds=seconds, latency_s=latency, others=others, **none)  # type: ignore[arg-type]


def test_others_work_is_no_latency_of_ours() -> None:
    """What was slow while others worked is not judged; where that was most of the time nothing is."""
    slow = [sample(t, 10 + 10 * (t > 3000), QUIET + (t > 3000)) for t in SECONDS]
    assert flat(SECONDS, judged(slow, "latency_s"), NOISE["latency_s"])[0]
    leak = [sample(t, 10 + 10 * t / SECONDS[-1], QUIET) for t in SECONDS]
    assert not flat(SECONDS, judged(leak, "latency_s"), NOISE["latency_s"])[0]
    crowded = [sample(t, 10, QUIET + (t > 1000)) for t in SECONDS]
    assert not flat(SECONDS, judged(crowded, "latency_s"), NOISE["latency_s"])[0]
