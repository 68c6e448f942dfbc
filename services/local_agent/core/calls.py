"""The executor API: from a request to what it means for the agent, in the order in which Mesos decides. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesos.v1.executor import executor_pb2
from services.local_agent.core import actions, subscribing, updates
from services.local_agent.core.model import ENDING, ExecutorState
from services.local_agent.core.phase import Phase
from services.local_agent.core.subscribing import CheckFailed
from services.local_agent.core.update_filter import Verdict
from services.local_agent.wire import auth, call_validation
from services.local_agent.wire.call_validation import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.local_agent.core.model import Executor
    from services.local_agent.core.step import Step
    from services.local_agent.wire.http import Request

_Call = executor_pb2.Call
NOT_RECOVERED = "Agent has not finished recovery"


def follow(step: Step, phase: Phase, request: Request, stream: int) -> None:
    """The rows of the table of status codes, in its order (Mesos: status codes).

    Raises:
        Refused: The answer is an error.
        CheckFailed: Mesos' agent would abort.
    """
    if phase is Phase.UNROUTED:
        raise Refused(404, "404 Not Found.")
    claims = None
    if step.config.authenticator is not None:
        claims = step.config.authenticator.authenticate(request.headers.get("authorization"), now=step.now.wall)
    if phase is Phase.RECOVERING:
        raise Refused(503, NOT_RECOVERED)
    call_validation.require_post(request.method)
    call = call_validation.decode(request.headers.get("content-type"), request.body)
    step.call = call
    call_validation.validate(call)
    content_type = ""
    if call.type == _Call.SUBSCRIBE:
        content_type = call_validation.negotiate(request.headers.get("accept"))
    if call.type == _Call.HEARTBEAT:
        step.respond(202)
        return
    if phase is Phase.REREGISTERING and call.type != _Call.SUBSCRIBE:
        raise Refused(503, NOT_RECOVERED)
    executor = _sender(step, call)
    if claims is not None:
        _check_claims(claims, executor)
    if executor.state is ExecutorState.REGISTERING and call.type != _Call.SUBSCRIBE:
        raise Refused(403, "Executor is not subscribed")
    _follow_call(step, executor, call, stream, content_type)


def _sender(step: Step, call: executor_pb2.Call) -> Executor:
    framework = step.state.frameworks.get(call.framework_id.value)
    if framework is None or not framework.executors:
        raise Refused(400, "Framework cannot be found")
    executor = framework.executors.get(call.executor_id.value)
    if executor is None:
        raise Refused(400, "Executor cannot be found")
    return executor


def _check_claims(claims: Mapping[str, str], executor: Executor) -> None:
    problem = auth.claims_problem(
        claims,
        framework_id=executor.framework_id,
        executor_id=executor.executor_id,
        container_id=executor.container_id,
    )
    if problem:
        raise Refused(403, problem)


def _follow_call(step: Step, executor: Executor, call: executor_pb2.Call, stream: int, content_type: str) -> None:
    if call.type == _Call.SUBSCRIBE:
        if executor.state not in ENDING:
            # Who is being ended hears SHUTDOWN, whatever it lists.
            subscribing.check_list(step, executor, call)
        subscribing.subscribe(step, executor, call, stream, content_type)
    elif call.type == _Call.UPDATE:
        verdict = updates.update(step, executor, call.update.status)
        if verdict is Verdict.NOT_DELIVERED_YET:
            task_id = call.update.status.task_id.value
            raise CheckFailed(f"update.status.task_id: {task_id} was not launched yet ({verdict.value})")
        step.respond(202)
    elif call.type == _Call.MESSAGE:
        # Without a master, or from an executor that is being ended, it is dropped (Mesos: MESSAGE).
        if step.forwarding and executor.state is ExecutorState.RUNNING:
            step.act(actions.PassMessage(executor.framework_id, executor.executor_id, call.message.data))
        step.respond(202)
    else:
        raise Refused(501, "501 Not Implemented.")
