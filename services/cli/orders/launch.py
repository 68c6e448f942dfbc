"""`trivet launch`: a task to a running agent, with Trivet's executor or with any other."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from typing import TYPE_CHECKING

from services.cli import layout
from services.cli.layout import LayoutError
from services.cli.orders import Failure
from services.cli.orders.watch import watch
from services.cli.prepare import CannotStart, prepare_data, read
from services.cli.taskinfo import framework as trivet_framework
from services.local_agent.client import orders
from services.local_agent.client.orders import InvalidOrder, Order

if TYPE_CHECKING:
    import argparse

    from mesos.v1 import mesos_pb2
    from services.local_agent.client.connection import AgentClient


def launch(options: argparse.Namespace, client: AgentClient) -> int:
    """Launches, says where the task is, and follows it when asked to; returns the exit status.

    Raises:
        Failure: there is nothing to launch, or the executor's process could not be started.
        AgentError: the agent refuses it.
    """
    try:
        task, framework = _task(options)
    except InvalidOrder as error:
        where = f"{options.file}: " if options.file else ""
        raise Failure(f"{where}{error}") from None
    except CannotStart as error:
        raise Failure(*error.lines) from None
    except LayoutError as error:
        raise Failure(str(error)) from None
    # An update that is older belongs to a former task of the same id.
    since = time.monotonic()
    answer = client.launch(task, framework, fresh=not (options.file or options.task_id))
    launched = {
        "type": "launched",
        "task_id": task.task_id.value,
        "framework_id": answer.framework_id,
        "executor_id": task.executor.executor_id.value,
        "container_id": answer.container_id,
        "sandbox": answer.sandbox,
        "failure": answer.failure or None,
    }
    if options.json:
        print(json.dumps(launched), flush=True)
    else:
        # A task that was dropped at once has no sandbox.
        print(f"task {launched['task_id']}" + (f"\nsandbox {answer.sandbox}" if answer.sandbox else ""), flush=True)
    if answer.failure:
        raise Failure(f"not launched: {answer.failure}")
    if not options.watch:
        return 0
    return watch(client, task.task_id.value, as_json=options.json, container_id=answer.container_id, since=since)


def _task(options: argparse.Namespace) -> tuple[mesos_pb2.TaskInfo, mesos_pb2.FrameworkInfo]:
    if options.file is None:
        return orders.task_info(_order(options)), _framework(options)
    text = read(options.file)
    value = orders.read_json(text)
    if isinstance(value, dict) and orders.is_task_info(value):
        return _with_executor(orders.parse_task_info(value), options), _framework(options)
    if options.executor or options.command:
        raise InvalidOrder("not a TaskInfo; data for an executor is given with --task-data FILE")
    if options.services is None:
        raise InvalidOrder(
            "a task of Thermos or Aurora needs Trivet's services: start them with `trivet up --dir DIR` "
            "and say --services DIR. (A Mesos TaskInfo has a task_id.)"
        )
    prepared = prepare_data(text, options.port, layout.find_services(options.services))
    for warning in prepared.warnings:
        print(f"trivet: warning: {warning}", file=sys.stderr)
    if options.checkpoint and options.capability is None and not options.framework_id:
        return prepared.info, trivet_framework()
    return prepared.info, _framework(options)


def _with_executor(info: mesos_pb2.TaskInfo, options: argparse.Namespace) -> mesos_pb2.TaskInfo:
    given = bool(options.executor or options.command)
    if given and info.HasField("executor"):
        raise InvalidOrder("executor: the TaskInfo has one, so --executor cannot give another")
    if not given and not info.HasField("executor") and not info.HasField("command"):
        raise InvalidOrder("executor: missing: name one in the file, or say --executor 'COMMAND'")
    if given:
        orders.fill_executor(info.executor, _order(options), options.executor_id or f"executor-{info.task_id.value}")
    return info


def _order(options: argparse.Namespace) -> Order:
    return Order(
        # Words that the user's shell has split stay as they are.
        executor=shlex.join(options.command) if options.command else options.executor,
        data=read(options.task_data) if options.task_data else b"",
        name=options.name,
        task_id=options.task_id,
        executor_id=options.executor_id,
        resources=f"cpus:{options.cpus};mem:{options.mem}",
        kill_grace=options.kill_grace,
        shutdown_grace=options.shutdown_grace,
        environment=dict(options.env),
        shell=options.shell,
        directories=[os.getcwd()],
    )


def _framework(options: argparse.Namespace) -> mesos_pb2.FrameworkInfo:
    names = orders.DEFAULT_CAPABILITIES if options.capability is None else options.capability
    return orders.framework_info(
        capabilities=[name for name in names if name != "none"],
        checkpoint=options.checkpoint,
        framework_id=options.framework_id,
    )
