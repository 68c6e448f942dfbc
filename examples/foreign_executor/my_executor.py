import base64, http.client, json, os, sys, uuid

IDS = {name: {"value": os.environ["MESOS_" + name.upper()]} for name in ("executor_id", "framework_id")}


def call(**fields):
    agent = http.client.HTTPConnection(os.environ["MESOS_AGENT_ENDPOINT"])
    agent.request("POST", "/api/v1/executor", json.dumps(IDS | fields), {"Content-Type": "application/json"})
    answer = agent.getresponse()
    if answer.status not in (200, 202):
        print(fields["type"], answer.status, answer.read().decode(), file=sys.stderr)
    return answer


def states(task):
    yield "TASK_STARTING"
    yield "TASK_RUNNING"
    yield "TASK_FAILED" if os.system(base64.b64decode(task.get("data", ""))) else "TASK_FINISHED"


events = call(type="SUBSCRIBE", subscribe={})
while length := events.readline():
    event = json.loads(events.read(int(length)))
    if event["type"] == "LAUNCH":
        task = event["launch"]["task"]
        for state in states(task):
            last = base64.b64encode(uuid.uuid4().bytes).decode()
            status = {"task_id": task["task_id"], "state": state, "source": "SOURCE_EXECUTOR", "uuid": last}
            call(type="UPDATE", update={"status": status})
    elif event["type"] == "SHUTDOWN" or (event["type"] == "ACKNOWLEDGED" and event["acknowledged"]["uuid"] == last):
        break
