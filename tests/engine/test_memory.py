"""How much memory there is: the least of what the machine, its groups and the process's limits leave."""

import subprocess
import sys
from pathlib import Path

from etalage.engine.memory import available_memory

MIB = 2**20


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MACHINE = {"proc/meminfo": f"MemTotal: 9999 kB\nMemAvailable:   {4096 << 10} kB\n"}


def test_without_groups_it_is_what_the_machine_has_free(tmp_path: Path) -> None:
    assert available_memory(system(tmp_path, MACHINE)) == 4096 * MIB


def test_a_group_of_a_group_leaves_what_the_upper_one_leaves(tmp_path: Path) -> None:
    groups = {
        "proc/self/cgroup": "0::/outer/inner\n",
        "sys/fs/cgroup/outer/memory.max": f"{1000 * MIB}\n",
        "sys/fs/cgroup/outer/memory.current": f"{700 * MIB}\n",
        "sys/fs/cgroup/outer/memory.stat": f"anon 5\ninactive_file {50 * MIB}\n",
        "sys/fs/cgroup/outer/inner/memory.max": "max\n",
        "sys/fs/cgroup/outer/inner/memory.current": f"{10 * MIB}\n",
    }
    assert available_memory(system(tmp_path, {**MACHINE, **groups})) == 350 * MIB


def test_groups_of_the_first_version_count_too(tmp_path: Path) -> None:
    groups = {
        "proc/self/cgroup": "5:cpu:/x\n4:memory:/box\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{512 * MIB}\n",
        "sys/fs/cgroup/memory/box/memory.usage_in_bytes": f"{400 * MIB}\n",
        "sys/fs/cgroup/memory/box/memory.stat": f"total_inactive_file {8 * MIB}\n",
    }
    assert available_memory(system(tmp_path, {**MACHINE, **groups})) == 120 * MIB


def test_a_system_that_says_nothing_is_not_guessed_at(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None


def test_a_worker_that_is_bounded_has_no_more_than_its_bound() -> None:
    code = (
        "from etalage.engine.memory import available_memory, limit_memory\n"
        "limit_memory(900 << 20)\nprint(available_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 900 * MIB
