"""Whose is a process that sheds session, parents and environment: real ones, with several tasks in one executor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from executor_shim.coordinator import tag
from tests.integration.coordinator.rig import gone, now, rig, wait_until

# Says its pid when it has nothing left of where it comes from, then is another program.
DAEMON = "env -i setsid -f /bin/sh -c 'exec 0<&- 2<&-; echo $$ >{0}.new; exec 1<&-; mv {0}.new {0}; exec sleep 6661'"
# Without the tag as well.
UNTAGGED = "(ulimit -x 5; " + DAEMON + ")"
AWAIT = "; until test -e ../a; do sleep 0.01; done"


def daemon(name: str, template: str = DAEMON) -> str:
    return template.replace("{0}", f"../{name}")


def test_a_task_that_ends_takes_nothing_of_another_task_with_it(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command(daemon("b") + "; exec sleep 6662", task="b"))
        stray = int(r.wait_for_file("b"))
        for number in range(5):
            task = f"a{number}"
            driver.send("start", **r.command("exit 0", task=task))
            driver.empty(task)
            driver.send("terminate", task=task, kill_at=now())
            driver.empty(task)
        assert not gone(stray)
        driver.send("terminate", task="b", kill_at=now())
        driver.empty("b")
        assert gone(stray)


def test_nothing_of_a_task_outlives_it_whatever_its_processes_shed(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("exec sleep 6662", task="b"))
        driver.run_event("running", task="b")
        driver.send("start", **r.command(f"{daemon('one')}; {daemon('two')}; exec sleep 6663", task="a"))
        strays = [int(r.wait_for_file(name)) for name in ("one", "two")]
        driver.send("terminate", task="a", kill_at=now())
        driver.empty("a")
        assert [gone(pid) for pid in strays] == [True, True]
        driver.send("terminate", task="b", kill_at=now())
        driver.empty("b")


def test_tasks_that_end_together_keep_each_its_own(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        go = r.sandbox / "go"
        os.mkfifo(go)
        wait = "exec 9<../go; read -u 9 x; exit 0"
        for task in "ab":
            driver.send("start", **r.command(f"{daemon(task)}; {wait}", task=task))
        driver.send("start", **r.command("exec sleep 6662", task="c"))
        strays = {task: int(r.wait_for_file(task)) for task in "ab"}
        # Opened by both readers: the end of the pipe wakes them in one instant.
        with go.open("wb"):
            pass
        ended: set[str] = set()
        while ended != {"a", "b"}:
            ended.add(driver.wait(lambda event: event["ev"] == "run" and event["run"]["state"] == "exited")["task"])
        assert not any(gone(pid) for pid in strays.values())
        driver.send("terminate", task="a", kill_at=now())
        driver.empty("a")
        assert (gone(strays["a"]), gone(strays["b"])) == (True, False)
        for task in "bc":
            driver.send("terminate", task=task, kill_at=now())
            driver.empty(task)


def test_a_daemon_that_overwrites_its_environment_is_still_its_tasks(tmp_path: Path) -> None:
    program = (
        "import ctypes, os, time\n"
        "done, say = os.pipe()\n"
        # It has its own session and no environment before its parent ends.
        "if os.fork(): os.read(done, 1), os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "start, end = (int(n) for n in open('/proc/self/stat').read().rpartition(')')[2].split()[47:49])\n"
        "ctypes.memset(start, 0, end - start)\n"
        "assert not open('/proc/self/environ', 'rb').read().strip(b'\\0')\n"
        "print(os.getpid(), file=open('../pid', 'w'), flush=True)\n"
        "os.write(say, b'x')\n"
        "time.sleep(6661)\n"
    )
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("exec sleep 6662", task="b"))
        driver.send("start", **r.command([sys.executable, "-c", program], task="a"))
        stray = int(r.wait_for_file("pid"))
        assert driver.run_event("exited", task="a")["alive"] == 1
        driver.send("terminate", task="a", kill_at=now())
        driver.empty("a")
        assert gone(stray)
        driver.send("terminate", task="b", kill_at=now())
        driver.empty("b")


def test_a_probe_that_was_answered_leaves_nothing_whatever_its_processes_shed(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        for task in "ab":
            driver.send("start", **r.command("exec sleep 6662", task=task))
        driver.send("probe", **r.probe(daemon("probed") + AWAIT.replace("../a", "../probed"), task="a"))
        assert driver.event("probe")["code"] == 0
        stray = int(r.wait_for_file("probed"))
        wait_until(lambda: gone(stray))
        for task in "ab":
            driver.send("terminate", task=task, kill_at=now())
            driver.empty(task)


def test_without_evidence_it_is_nobodys_until_one_task_is_left_and_ends_with_that(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("exec sleep 6662", task="b"))
        driver.run_event("running", task="b")
        driver.send("start", **r.command(daemon("a", UNTAGGED) + AWAIT, task="a"))
        stray = int(r.wait_for_file("a"))
        assert tag.read(stray) == 5
        wait_until(lambda: Path(f"/proc/{stray}/stat").read_text().rpartition(")")[2].split()[1] == str(r.pid))
        assert driver.run_event("exited", task="a")["alive"] == 0
        driver.send("terminate", task="a", kill_at=now())
        driver.empty("a")
        assert not gone(stray)
        driver.send("forget", task="a")
        driver.send("terminate", task="b", kill_at=now())
        driver.empty("b")
        assert gone(stray)


def test_what_is_nobodys_ends_when_no_task_is_left(tmp_path: Path) -> None:
    with rig(tmp_path) as r:
        driver = r.driver()
        driver.send("start", **r.command("exec sleep 6662", task="b"))
        driver.run_event("running", task="b")
        driver.send("start", **r.command(daemon("a", UNTAGGED) + AWAIT, task="a"))
        stray = int(r.wait_for_file("a"))
        driver.run_event("exited", task="a")
        driver.send("terminate", task="b", kill_at=now())
        driver.empty("b")
        assert not gone(stray)
        for task in "ab":
            driver.send("forget", task=task)
        wait_until(lambda: gone(stray))
        assert not [event for event in driver.events if event["ev"] == "error"]


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")
def test_a_tag_outlives_a_change_of_user_and_can_be_read_by_any_other_user() -> None:
    marker = "x." + os.urandom(8).hex()
    program = (
        "import os, sys; from executor_shim.coordinator import tag\n"
        f"tag.wear({marker!r}); os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "os.execve('/bin/sh', ['sh', '-c', 'echo; exec sleep 6661'], {})"
    )
    read = "import os, sys; from executor_shim.coordinator import tag; os.setuid(1); print(tag.read(int(sys.argv[1])))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        seen = subprocess.run(
            [sys.executable, "-c", read, str(child.pid)], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        child.kill()
        child.wait()
    assert int(seen) == tag.of(marker)


def test_a_zombie_still_shows_its_tag_and_a_process_that_is_gone_has_none() -> None:
    marker = "x." + os.urandom(8).hex()
    program = f"from executor_shim.coordinator import tag; tag.wear({marker!r})"
    child = subprocess.Popen([sys.executable, "-c", program])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert tag.read(child.pid) == tag.of(marker)
    child.wait()
    assert tag.read(child.pid) == 0


def test_a_container_with_a_limit_of_its_own_starts_processes_without_tags(tmp_path: Path) -> None:
    limited = (
        "import os, resource, sys; resource.setrlimit(10, (50, 50)); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    with rig(tmp_path, wrapper=("-c", limited)) as r:
        driver = r.driver()
        driver.send("start", **r.command("ulimit -x; exit 4"))
        assert driver.run_event("exited")["run"]["code"] == 4
        assert r.stdout() == "50\n"


def test_a_tag_is_never_a_limit_that_means_something() -> None:
    for bits in ("0" * 16, "f" * 16):
        assert 1 << 61 <= tag.of("x." + bits) < 1 << 62
