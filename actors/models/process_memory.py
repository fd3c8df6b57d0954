"""What memory a machine or a GPU has free, and how much a process ever held. Looks at its own process and machine."""

import re
import resource
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
CGROUP_FILES = (  # limit, use, and the prefix of the page cache's lines in memory.stat: version 2, version 1
    ("memory.max", "memory.current", ""),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_"),
)
CONTEXT_BYTES = 600 << 20  # of a CUDA context with its libraries, which torch does not count


def free_host_bytes(cgroup: Path = CGROUP) -> int:
    """Memory that this machine, and this container where it is one, can still give."""
    import psutil  # here, because Ray brings one along where none is installed

    free_bytes = [psutil.virtual_memory().available]
    for limit_name, use_name, prefix in CGROUP_FILES:
        limit_file, use_file = cgroup / limit_name, cgroup / use_name
        if limit_file.is_file() and use_file.is_file() and (limit := limit_file.read_text().strip()).isdecimal():
            stat = limit_file.with_name("memory.stat").read_text()
            cached = sum(map(int, re.findall(rf"^{prefix}(?:in)?active_file (\d+)$", stat, re.MULTILINE)))
            free_bytes.append(int(limit) - int(use_file.read_text()) + cached)
    return max(0, min(free_bytes))


def free_device_bytes() -> int:
    """Memory that this process's GPU can still give."""
    import torch

    return torch.cuda.mem_get_info()[0]


def peak_bytes() -> int:
    """Most memory this process ever held: on its GPU if it used one, else on the host."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() + CONTEXT_BYTES
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss keeps what the parent held when it forked
        return int(re.findall(r"VmHWM:\s+(\d+)", status.read_text())[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
