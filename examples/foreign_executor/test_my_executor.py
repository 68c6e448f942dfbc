def test_a_task_that_ends_well(mesos_agent):
    task = mesos_agent.launch("python3 my_executor.py", data="echo hello")
    assert task.wait().states == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
    assert task.wait_executor_ended().exit_code == 0
    assert task.stdout == "hello\n"


def test_a_task_that_fails(mesos_agent):
    task = mesos_agent.launch("python3 my_executor.py", data="exit 3")
    assert task.wait().state == "TASK_FAILED"
