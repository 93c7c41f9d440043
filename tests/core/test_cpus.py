"""``workers = auto``: one for each CPU that affinity and control groups leave to the process."""

import os

import pytest

from esxiproxy.core.config import quantities
from esxiproxy.core.config.cpus import usable_cpus

V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "32 31 0:29 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "33 31 0:30 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)
V1_PATH = "5:memory:{path}\n4:cpu,cpuacct:{path}\n"


class Machine:
    """A node with 64 CPUs, and the files of its kernel under a folder."""

    def __init__(self, folder, mounts, paths):
        self.root = folder
        self.write("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts)
        self.write("proc/self/cgroup", paths)

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def v2(self, group, text):
        self.write(f"sys/fs/cgroup/{group}/cpu.max", text)

    def v1(self, group, quota, period="100000"):
        self.write(f"sys/fs/cgroup/cpu,cpuacct/{group}/cpu.cfs_quota_us", f"{quota}\n")
        self.write(f"sys/fs/cgroup/cpu,cpuacct/{group}/cpu.cfs_period_us", f"{period}\n")

    @property
    def cpus(self):
        return usable_cpus(self.root)


@pytest.fixture(autouse=True)
def node(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)), raising=False)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("50000 100000\n", 1),  # half a CPU
        ("100000 100000\n", 1),
        ("150000 100000\n", 2),
        ("400000 100000\n", 4),
        ("6400001 100000\n", 64),  # more than there are
        ("1000 1000000\n", 1),
        ("max 100000\n", 64),
        ("max\n", 64),
        ("", 64),
        ("0 100000\n", 64),
        ("100000 0\n", 64),
        ("-1 100000\n", 64),
        ("many cpus\n", 64),
    ],
)
def test_a_quota_of_version_2(tmp_path, text, cpus):
    machine = Machine(tmp_path, V2.format(root="/"), "0::/\n")
    machine.v2(".", text)
    assert machine.cpus == cpus


def test_the_least_of_all_groups_above_counts(tmp_path):
    machine = Machine(tmp_path, V2.format(root="/"), "0::/kubepods.slice/pod7.slice/proxy.scope\n")
    machine.v2("kubepods.slice/pod7.slice/proxy.scope", "max 100000")
    machine.v2("kubepods.slice/pod7.slice", "300000 100000")
    machine.v2("kubepods.slice", "1600000 100000")
    assert machine.cpus == 3
    machine.v2("kubepods.slice/pod7.slice/proxy.scope", "200000 100000")
    assert machine.cpus == 2
    machine.v2("kubepods.slice", "50000 100000")
    assert machine.cpus == 1


def test_a_group_of_others_does_not_count(tmp_path):
    machine = Machine(tmp_path, V2.format(root="/"), "0::/proxy\n")
    machine.v2("proxy", "300000 100000")
    machine.v2("other", "100000 100000")
    machine.v2("proxy/below", "100000 100000")
    assert machine.cpus == 3


@pytest.mark.parametrize(("quota", "cpus"), [("-1", 64), ("50000", 1), ("250000", 3), ("", 64)])
def test_a_quota_of_version_1(tmp_path, quota, cpus):
    machine = Machine(tmp_path, V1.format(root="/"), V1_PATH.format(path="/docker/abc"))
    machine.v1("docker", "-1")
    machine.v1("docker/abc", quota)
    assert machine.cpus == cpus
    machine.v1("docker", "100000", "100000")
    assert machine.cpus == 1


def test_both_versions_at_once(tmp_path):
    machine = Machine(
        tmp_path, V1.format(root="/") + V2.format(root="/"), V1_PATH.format(path="/a") + "0::/a\n"
    )
    machine.v1("a", "700000")
    assert machine.cpus == 7
    machine.v2("a", "500000 100000")
    assert machine.cpus == 5


@pytest.mark.parametrize("root", ["/", "/docker/abc", "/../other"])
def test_a_container_sees_its_own_group_at_the_mount(tmp_path, root):
    # Without a namespace of control groups, the path is the host's and the mount shows this group only.
    machine = Machine(tmp_path, V1.format(root=root), V1_PATH.format(path="/docker/abc"))
    machine.v1(".", "200000")
    assert machine.cpus == 2


def test_a_place_with_a_space(tmp_path):
    machine = Machine(tmp_path, V2.format(root="/").replace("/sys/fs/cgroup", "/sys/fs/c\\040g"), "0::/\n")
    machine.write("sys/fs/c g/cpu.max", "200000 100000")
    assert machine.cpus == 2


def test_fewer_cpus_than_the_quota_allows(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 5})
    machine = Machine(tmp_path, V2.format(root="/"), "0::/\n")
    machine.v2(".", "800000 100000")
    assert machine.cpus == 2


def test_a_system_without_control_groups(tmp_path, monkeypatch):
    assert usable_cpus(tmp_path) == 64
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus(tmp_path) == 1


def test_auto_is_the_usable_number_up_to_the_maximum(monkeypatch):
    monkeypatch.setattr(quantities, "usable_cpus", lambda: 3)
    assert quantities.workers("auto") == 3
    monkeypatch.setattr(quantities, "usable_cpus", lambda: 1024)
    assert quantities.workers("auto") == 256
