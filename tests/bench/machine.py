"""What a figure was measured on, in one line."""

import os
import platform
import time
from pathlib import Path


def describe() -> str:
    """Processor, memory, kernel and Python of this machine."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{os.cpu_count()} processors {model}, {memory_gib:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the values are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def busy_share(seconds: float) -> float:
    """The share of all processors that is used, as seen for so long."""
    idle_s, all_s = _times()
    time.sleep(seconds)
    more_idle_s, more_all_s = _times()
    return 1 - (more_idle_s - idle_s) / (more_all_s - all_s)


def _times() -> tuple[float, float]:
    """Idle time and all time, of all processors: the first line of /proc/stat (proc(5))."""
    with Path("/proc/stat").open() as file:
        times = [int(word) for word in file.readline().split()[1:9]]
    return times[3] + times[4], sum(times)
