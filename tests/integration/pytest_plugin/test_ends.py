"""The pytest plugin when tests, executors and agents end, well or badly."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from services.local_agent.testing import MesosAgent, closing
from tests.integration.pytest_plugin.project import SECS, Project, alive
from tests.integration.ready import readable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def project(tmp_path: pathlib.Path) -> Iterator[Project]:
    yield Project(tmp_path)
    assert not alive(str(tmp_path))


def test_a_process_that_outlives_its_container_fails_the_test_by_name(project: Project) -> None:
    project.write("""
        import pytest

        def test_fails(mesos_agent):
            mesos_agent.launch("python3 executor.py", data="daemon TASK_FINISHED").wait_executor_ended()

        @pytest.mark.mesos_agent(leftovers="kill")
        def test_is_content(mesos_agent):
            mesos_agent.launch("python3 executor.py", data="daemon TASK_FINISHED").wait_executor_ended()
    """)
    counts, text = project.run()
    assert counts == {"passed": 2, "error": 1}, text
    assert "1 left over at the end of the test, and killed:" in text
    assert re.search(r"daemon of \S+/executor.py 4321 \(pid \d+\): its container is over, it was left behind", text)


def test_an_executor_that_does_not_shut_down_fails_the_test_by_name(project: Project) -> None:
    project.write("""
        import pytest

        pytestmark = pytest.mark.mesos_agent(flags=["--executor-shutdown-grace-period", "300ms"])

        def test_deaf(mesos_agent):
            mesos_agent.launch("python3 executor.py", data="deaf TASK_RUNNING").wait("TASK_RUNNING")

        def test_obeys(mesos_agent):
            mesos_agent.launch("python3 executor.py", data="TASK_RUNNING").wait("TASK_RUNNING")

        @pytest.mark.mesos_agent(leftovers="kill")
        def test_deaf_and_nobody_minds(mesos_agent):
            mesos_agent.launch("python3 executor.py", data="deaf TASK_RUNNING").wait("TASK_RUNNING")

        def test_never_subscribed(mesos_agent):
            mesos_agent.launch("sleep 4000")
    """)
    counts, text = project.run()
    assert counts == {"passed": 4, "error": 1}, text
    assert re.search(
        r"python3 \S+/executor.py \(pid \d+\): it did not end within its grace period after SHUTDOWN", text
    )


def test_agent_that_is_held_in_its_recovery_destroys_executors_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "_RECOVERY_SECS", 0.3)
    flags = ["--executor-shutdown-grace-period", "300ms"]
    with MesosAgent.start(flags) as agent:
        task = agent.launch("sleep 4000")
        pid = next(row.pid for row in agent.executors() if row.container_id == task.container_id)
        agent.restart(unavailable=1000.0)
    assert not pathlib.Path(f"/proc/{pid}").exists()


def test_agent_that_leaves_destroys_executors_at_the_end() -> None:
    with MesosAgent.start(["--executor-shutdown-grace-period", "1hrs"]) as agent:
        agent.launch("sleep 4000")
        (pid,) = [row.pid for row in agent.executors()]
        os.kill(agent.pid, signal.SIGUSR1)
    assert not pathlib.Path(f"/proc/{pid}").exists()


def test_flags_and_mistakes_in_them(project: Project) -> None:
    project.write("""
        import pytest

        @pytest.mark.mesos_agent(flags=["--hostname", "node7.example", "--port", "0"])
        def test_good(mesos_agent):
            task = mesos_agent.launch("python3 executor.py", data="TASK_FINISHED")
            task.wait()
            assert '"hostname": "node7.example"' in task.stdout

        @pytest.mark.mesos_agent(flags=["--colour", "red"])
        def test_no_such_flag(mesos_agent):
            pass

        @pytest.mark.mesos_agent("--port", "0")
        def test_no_keyword(mesos_agent):
            pass

        @pytest.mark.mesos_agent(leftovers="eat")
        def test_no_such_choice(mesos_agent):
            pass
    """)
    counts, text = project.run("--strict-markers")
    assert counts == {"passed": 1, "error": 3}, text
    assert "unrecognized arguments: --colour red" in text
    assert "the marker is mesos_agent(flags=[...], leftovers='fail')" in text
    assert "'eat' is neither 'fail' nor 'kill'" in text


def test_workers_of_xdist_have_agents_of_their_own(project: Project) -> None:
    project.write("""
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_it(mesos_agent, number):
            words = "TASK_RUNNING quit" if number == 3 else "TASK_FINISHED"
            task = mesos_agent.launch("python3 executor.py", data=words)
            assert task.wait().state == "TASK_FINISHED"
    """)
    counts, text = project.run("-n", "2")
    assert counts == {"passed": 3, "failed": 1}, text
    assert "exit code 7" in text


def test_an_agent_that_dies_is_named_as_the_cause(project: Project) -> None:
    project.write("""
        import os, signal

        def test_it(mesos_agent):
            task = mesos_agent.launch("python3 executor.py", data="daemon TASK_RUNNING").wait("TASK_RUNNING")
            os.kill(mesos_agent.pid, signal.SIGKILL)

        def test_in_the_middle(mesos_agent):
            task = mesos_agent.launch("python3 executor.py", data="TASK_RUNNING").wait("TASK_RUNNING")
            os.kill(mesos_agent.pid, signal.SIGKILL)
            task.wait()

        def test_on_purpose(mesos_agent):
            os.kill(mesos_agent.pid, signal.SIGTERM)
            mesos_agent.wait_ended()

        def test_stopped(mesos_agent):
            os.kill(mesos_agent.pid, signal.SIGSTOP)
    """)
    counts, text = project.run()
    assert counts == {"passed": 3, "failed": 1, "error": 2}, text
    assert "WaitTimeout: a terminal state: the agent has ended with status -9; its log ends with:" in text
    assert "AgentDied: the agent has ended with status -9; its log ends with:" in text


def test_a_test_run_that_is_killed_leaves_nothing(project: Project) -> None:
    project.write("""
        def test_it(mesos_agent, capfd):
            task = mesos_agent.launch("python3 executor.py", data="TASK_RUNNING").wait("TASK_RUNNING")
            with capfd.disabled():
                print(f"\\nrunning {mesos_agent.pid} {task.executor.pid} {mesos_agent.work_dir}", flush=True)
            task.wait(timeout=1000)
    """)
    run = subprocess.Popen(
        project.command("-q"), stdout=subprocess.PIPE, text=True, cwd=project.path, env=project.environment()
    )
    assert run.stdout is not None
    words = next(line for line in run.stdout if line.startswith("running ")).split()
    ends = [os.pidfd_open(int(pid)) for pid in words[1:3]]
    run.send_signal(signal.SIGKILL)
    run.communicate()
    for fd in ends:
        assert readable(fd, SECS)
        os.close(fd)
    shutil.rmtree(pathlib.Path(words[3]).parent)


def test_the_directory_is_removed_or_kept(project: Project) -> None:
    project.write("""
        def test_it(mesos_agent):
            mesos_agent.launch("python3 executor.py", data="TASK_FINISHED").wait()
            open("where", "w").write(mesos_agent.work_dir)
            assert "recovered" in mesos_agent.log
    """)
    for argv, kept in (((), False), (("--mesos-agent-keep",), True)):
        counts, text = project.run(*argv)
        assert counts == {"passed": 1}, text
        directory = pathlib.Path((project.path / "where").read_text()).parent
        assert directory.exists() == kept
        if kept:
            assert list(directory.glob("agent/slaves/**/stdout"))
            shutil.rmtree(directory)
