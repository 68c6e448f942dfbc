"""An executor without a line of Trivet, for tests of the command line and the pytest plugin.

TaskInfo.data says what it does: a word each for what it sends at LAUNCH, such as `TASK_STARTING TASK_RUNNING`. KILL
and SHUTDOWN end its tasks with TASK_KILLED; `deaf` makes it ignore both, `daemon` leaves a process behind in a session
of its own, `quit` ends it at once with status 7. What it receives it writes to stdout, and MESSAGE goes back as it
came. It leaves when its last terminal update has been acknowledged.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
import uuid
from typing import Any

IDS = {name: {"value": os.environ["MESOS_" + name.upper()]} for name in ("executor_id", "framework_id")}
TERMINAL = ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED")


def call(**fields: Any) -> http.client.HTTPResponse:
    agent = http.client.HTTPConnection(os.environ["MESOS_AGENT_ENDPOINT"])
    agent.request("POST", "/api/v1/executor", json.dumps(IDS | fields), {"Content-Type": "application/json"})
    return agent.getresponse()


class Executor:
    def __init__(self) -> None:
        self.alive: set[str] = set()
        self.last: set[str] = set()
        self.deaf = False

    def update(self, task_id: str, state: str) -> None:
        number = base64.b64encode(uuid.uuid4().bytes).decode()
        status = {"task_id": {"value": task_id}, "state": state, "source": "SOURCE_EXECUTOR", "uuid": number}
        if state in TERMINAL:
            self.alive.discard(task_id)
            self.last.add(number)
        answer = call(type="UPDATE", update={"status": status})
        print(state, answer.status, flush=True)

    def launch(self, task: dict[str, Any]) -> None:
        task_id = task["task_id"]["value"]
        self.alive.add(task_id)
        for word in base64.b64decode(task.get("data", "")).decode().split():
            if word == "daemon":
                # Its command line says whose it is.
                name = f"daemon of {sys.argv[0]}"
                subprocess.Popen([name, "4321"], executable="/bin/sleep", start_new_session=True)
            elif word == "quit":
                sys.exit(7)
            elif word == "deaf":
                self.deaf = True
            else:
                self.update(task_id, word)

    def receive(self, event: dict[str, Any]) -> bool:
        """False: it is time to leave."""
        print(json.dumps(event), flush=True)
        kind = event["type"]
        if kind in ("LAUNCH", "LAUNCH_GROUP"):
            for task in [event["launch"]["task"]] if kind == "LAUNCH" else event["launch_group"]["task_group"]["tasks"]:
                self.launch(task)
        elif kind == "KILL" and not self.deaf:
            self.update(event["kill"]["task_id"]["value"], "TASK_KILLED")
        elif kind == "SHUTDOWN" and not self.deaf:
            for task_id in list(self.alive):
                self.update(task_id, "TASK_KILLED")
            return False
        elif kind == "MESSAGE":
            call(type="MESSAGE", message={"data": event["message"]["data"]})
        elif kind == "ACKNOWLEDGED":
            self.last.discard(event["acknowledged"]["uuid"])
            return bool(self.alive or self.last)
        return True


def main() -> None:
    executor = Executor()
    while True:
        events = call(type="SUBSCRIBE", subscribe={})
        if events.status != 200:
            sys.exit(f"SUBSCRIBE: {events.status} {events.read()!r}")
        while length := events.readline():
            if not executor.receive(json.loads(events.read(int(length)))):
                return
        sys.exit("the stream has ended")


if __name__ == "__main__":
    main()
