"""The pytest plugin, as the author of a foreign executor uses it: in test runs and directories of their own."""

from __future__ import annotations

import importlib.metadata
import re
from typing import TYPE_CHECKING

import pytest

from tests.integration.pytest_plugin.project import EXAMPLE, ROOT, Project, alive

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


@pytest.fixture
def project(tmp_path: pathlib.Path) -> Iterator[Project]:
    yield Project(tmp_path)
    assert not alive(str(tmp_path))


def test_the_documented_executor_passes_the_documented_test(project: Project) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "local-agent.md").read_text(), re.DOTALL)
    for name in ("my_executor.py", "test_my_executor.py"):
        text = (EXAMPLE / name).read_text()
        assert text in blocks, f"docs/local-agent.md does not show {name} as it is"
        assert "trivet" not in text
        (project.path / name).write_text(text)
    counts, text = project.run()
    assert counts == {"passed": 2}, text


def test_the_plugin_is_found_by_its_entry_point() -> None:
    (entry,) = importlib.metadata.entry_points(group="pytest11", name="pytest_trivet")
    assert entry.value == "pytest_trivet"


def test_what_does_not_use_it_pays_nothing(project: Project) -> None:
    project.write("""
        import sys

        def test_nothing_is_loaded():
            assert "pytest_trivet" in sys.modules
            assert not {"grpc", "google.protobuf", "services", "mesos", "asyncio.unix_events"} & set(sys.modules)
    """)
    counts, text = project.run("-W", "error")
    assert counts == {"passed": 1}, text


def test_somebody_elses_services_disturb_only_who_uses_the_fixture(project: Project) -> None:
    (project.path / "services").mkdir()
    (project.path / "services" / "__init__.py").touch()
    project.write("""
        def test_of_his_own():
            import services

        def test_with_agent(mesos_agent):
            pass
    """)
    counts, text = project.run()
    assert counts == {"passed": 1, "error": 1}, text
    assert "A package `services` of your own hides Trivet's" in text


def test_a_failure_shows_updates_and_output_of_the_executor(project: Project) -> None:
    project.write("""
        def test_it(mesos_agent):
            task = mesos_agent.launch("python3 executor.py", data="TASK_RUNNING quit")
            assert task.wait().state == "TASK_FINISHED"
    """)
    counts, text = project.run()
    assert counts == {"failed": 1}, text
    assert "TASK_RUNNING SOURCE_EXECUTOR" in text
    assert "TASK_FAILED SOURCE_AGENT REASON_EXECUTOR_TERMINATED" in text
    assert "exit code 7" in text
    assert re.search(r"-+ stdout of executor executor-\S+ -+\n\{\"type\": \"SUBSCRIBED\"", text)


def test_waiting_in_vain_shows_what_has_come(project: Project) -> None:
    project.write("""
        def test_too_long(mesos_agent):
            task = mesos_agent.launch("python3 executor.py", data="TASK_STARTING")
            task.wait("TASK_STARTING")
            task.wait("TASK_RUNNING", timeout=0.1)

        def test_not_any_more(mesos_agent):
            mesos_agent.launch("python3 executor.py", data="TASK_FINISHED").wait("TASK_RUNNING")

        def test_no_state(mesos_agent):
            mesos_agent.launch("python3 executor.py", data="TASK_FINISHED").wait("RUNNING")
    """)
    counts, text = project.run()
    assert counts == {"failed": 3}, text
    assert re.search(
        r"WaitTimeout: TASK_RUNNING: not after 0.1 s\nE +updates of task \S+ so far:\nE +TASK_STARTING", text
    )
    # Both outputs, in the text of the error itself.
    assert re.search(r"E +its stdout:\nE +\{\"type\": \"SUBSCRIBED\"", text)
    assert re.search(r"E +its stderr:\nE +\(empty\)", text)
    assert "TASK_RUNNING cannot come any more: the task has ended" in text
    assert "'RUNNING' is no state of a task" in text


def test_calls_that_were_refused_or_did_not_count_are_shown(project: Project) -> None:
    project.write("""
        def test_refused(mesos_agent):
            mesos_agent.launch("python3 executor.py", data="TASK_NONSENSE quit").wait("TASK_RUNNING")

        def test_did_not_count(mesos_agent):
            # What is acknowledged to the end is forgotten, and not checked any more.
            mesos_agent.behave(scheduler_acknowledges=False)
            words = "TASK_RUNNING TASK_FINISHED TASK_FAILED quit"
            mesos_agent.launch("python3 executor.py", data=words, task_id="t1").wait_executor_ended()
            assert False

        def test_wrong_id(mesos_agent):
            mesos_agent.launch(["env", "MESOS_EXECUTOR_ID=mien", "python3", "executor.py"]).wait("TASK_RUNNING")

        def test_silent(mesos_agent):
            mesos_agent.launch("sleep 4000").wait(timeout=0.1)

        def test_cannot_start(mesos_agent):
            task = mesos_agent.launch("nope")
            assert "No such file or directory: 'nope'" in task.launch_failure
            task.wait("TASK_RUNNING")
    """)
    counts, text = project.run()
    assert counts == {"failed": 5}, text
    parts = {name: part for part in re.split(r"(?m)^_{3,} ", text)[1:] for name in [part.split()[0]]}
    assert re.search(
        r"E +what was wrong with calls to the agent:\nE +POST /\S+: 400 .*TASK_NONSENSE", parts["test_refused"]
    )
    # In the report's own section of the task, too.
    assert len(re.findall(r"what was wrong with calls to the agent", parts["test_refused"])) == 2
    assert re.search(r"UPDATE TASK_FAILED of t1: 202, but .*ended", parts["test_did_not_count"])
    assert re.search(
        r"SUBSCRIBE: 400 .* \(of framework .*, executor 'mien', which the agent does not", parts["test_wrong_id"]
    )
    assert re.search(r"REGISTERING, pid \d+: it has not called SUBSCRIBE$", parts["test_silent"], re.MULTILINE)
    assert "the executor is TERMINATED: Failed to launch container: " in parts["test_cannot_start"]


def test_a_task_that_is_dropped_at_once_has_no_output(project: Project) -> None:
    project.write("""
        import pathlib

        def test_it(mesos_agent):
            # Not to be taken for the executor's.
            pathlib.Path("stdout").write_text("mine")
            words = "deaf TASK_RUNNING"
            first = mesos_agent.launch("python3 executor.py", data=words, shutdown_grace=0).wait("TASK_RUNNING")
            mesos_agent.drain()
            late = mesos_agent.launch("python3 executor.py")
            assert (late.wait().state, late.launch_failure) == ("TASK_DROPPED", "Agent is draining")
            assert late.stdout == late.stderr == ""
            late.wait("TASK_RUNNING")
    """)
    counts, text = project.run()
    assert counts["failed"] == 1, text
    assert "TASK_RUNNING cannot come any more" in text
    assert "No such file" not in text
    assert "stdout of executor executor-executor-py" in text


def test_everything_that_can_be_said_at_a_launch(project: Project) -> None:
    project.write("""
        import json

        def subscribed(task):
            return json.loads(task.stdout.splitlines()[0])["subscribed"]

        def test_it(mesos_agent):
            task = mesos_agent.launch(
                ["python3", "executor.py"], data=b"TASK_RUNNING", name="my task", executor_id="mine", checkpoint=False,
                capabilities=["PARTITION_AWARE"], kill_grace=2.5, shutdown_grace=4,
                resources="cpus:2;mem:64;ports:[31000-31001]",
                environment={"COLOUR": "red"}, labels={"key": "value"},
            ).wait("TASK_RUNNING")
            info = json.loads(task.stdout.splitlines()[1])["launch"]["task"]
            assert info["name"] == "my task"
            assert info["kill_policy"]["grace_period"]["nanoseconds"] == 2_500_000_000
            assert info["labels"]["labels"] == [{"key": "key", "value": "value"}]
            assert [resource["name"] for resource in info["resources"]] == ["cpus", "mem", "ports"]
            about = subscribed(task)
            assert about["framework_info"]["checkpoint"] is False
            assert about["framework_info"]["capabilities"] == [{"type": "PARTITION_AWARE"}]
            assert about["executor_info"]["executor_id"]["value"] == task.executor_id == "mine"
            assert about["executor_info"]["shutdown_grace_period"]["nanoseconds"] == 4_000_000_000
            environment = open(f"/proc/{task.executor.pid}/environ").read().split("\\0")
            assert "COLOUR=red" in environment and "MESOS_CHECKPOINT=0" in environment
            assert f"MESOS_AGENT_ENDPOINT={mesos_agent.endpoint}" in environment
            # The same executor takes a second task.
            again = mesos_agent.launch(
                ["python3", "executor.py"], data="TASK_FINISHED", executor_id="mine", checkpoint=False,
                capabilities=["PARTITION_AWARE"], shutdown_grace=4, environment={"COLOUR": "red"},
            )
            assert again.wait().states == ["TASK_FINISHED"]
            assert again.container_id == task.container_id

        def test_a_shell(mesos_agent):
            task = mesos_agent.launch("echo $MESOS_EXECUTOR_ID; exit 3", shell=True, executor_id="e")
            assert task.wait().state == "TASK_FAILED"
            assert task.wait_executor_ended().exit_code == 3
            assert task.stdout == "e\\n"
    """)
    counts, text = project.run()
    assert counts == {"passed": 2}, text


def test_what_can_be_done_to_a_running_task(project: Project) -> None:
    project.write("""
        import pytest

        @pytest.fixture
        def task(mesos_agent):
            return mesos_agent.launch("python3 executor.py", data="TASK_STARTING TASK_RUNNING").wait("TASK_RUNNING")

        def test_kill(task):
            assert task.kill(grace=1.5)
            assert task.wait().states[-1] == "TASK_KILLED"
            assert '{"nanoseconds": 1500000000}' in task.stdout
            assert [status.uuid for status in task.updates] == [entry.status.uuid for entry in task.received]

        def test_shutdown(task):
            assert task.shutdown()
            assert task.wait().state == "TASK_KILLED"
            assert task.wait_executor_ended().exit_code == 0

        def test_message(mesos_agent, task):
            assert mesos_agent.message(task, "ping")
            assert mesos_agent.wait_message() == b"ping"

        def test_restart(mesos_agent, task):
            pid = mesos_agent.pid
            mesos_agent.restart(gap=0.2, kill=True)
            assert mesos_agent.pid == pid
            # This executor does not subscribe again.
            assert task.wait().states == ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]

        def test_fault(mesos_agent, task):
            with mesos_agent.fault("event=KILL lose times=1") as fault:
                task.kill()
                task.kill()
                task.wait("TASK_KILLED")
                assert fault.strikes == 1
            assert "404" not in task.stdout

        def test_refused(mesos_agent):
            mesos_agent.fault("update refuse=503 times=1")
            task = mesos_agent.launch("python3 executor.py", data="TASK_STARTING TASK_FINISHED")
            assert task.wait().states == ["TASK_FINISHED"]
            assert "TASK_STARTING 503" in task.stdout

        def test_nonsense(mesos_agent):
            with pytest.raises(ValueError, match="refuse=99"):
                mesos_agent.fault("update refuse=99")
    """)
    counts, text = project.run("-x")
    assert counts == {"passed": 7}, text


def test_groups_drain_and_a_scheduler_that_does_not_acknowledge(project: Project) -> None:
    project.write("""
        from mesos.v1 import mesos_pb2
        from services.local_agent.client import orders

        def test_group(mesos_agent):
            command = mesos_agent.launch("python3 executor.py", data="TASK_FINISHED").info.executor.command
            executor = mesos_pb2.ExecutorInfo(type=mesos_pb2.ExecutorInfo.CUSTOM, command=command)
            executor.executor_id.value = "group"
            executor.resources.extend(orders.resources.parse("cpus:0.1;mem:32;disk:16"))
            tasks = [mesos_pb2.TaskInfo(name=name, data=b"TASK_RUNNING TASK_FINISHED") for name in ("a", "b")]
            for task in tasks:
                task.task_id.value = task.name
                task.agent_id.value = ""
                task.resources.extend(orders.resources.parse("cpus:0.1;mem:32;disk:16"))
            a, b = mesos_agent.launch_group(executor, tasks)
            assert a.wait().states == b.wait().states == ["TASK_RUNNING", "TASK_FINISHED"]

        def test_drain(mesos_agent):
            task = mesos_agent.launch("python3 executor.py", data="TASK_RUNNING").wait("TASK_RUNNING")
            assert mesos_agent.drain(max_grace=1) == [task.task_id]
            task.wait("TASK_KILLED")
            assert task.updates[-1].reason == mesos_pb2.TaskStatus.REASON_AGENT_DRAINING

        def test_acknowledgements(mesos_agent):
            mesos_agent.behave(scheduler_acknowledges=False)
            task = mesos_agent.launch("python3 executor.py", data="TASK_STARTING TASK_RUNNING TASK_FINISHED")
            task.wait("TASK_STARTING")
            assert mesos_agent.acknowledge(task) == task.updates[0].uuid
            task.wait("TASK_RUNNING")
            assert "TASK_FINISHED" not in task.states
    """)
    counts, text = project.run()
    assert counts == {"passed": 3}, text
