"""When to try SUBSCRIBE again, and when to give up (Mesos: disconnection policy). Pure: time is an argument."""

from __future__ import annotations

from enum import Enum

# At least one attempt a second, whatever the outage: the agent's window after its restart is 2 s by default. A little
# less than a second, as waking up and connecting take their time, too.
MAX_PAUSE = 0.9
# Nothing has ever subscribed: the agent gives up on us after its registration timeout.
FIRST_TIMEOUT = 60.0
# No answer to SUBSCRIBE.
HEAD_TIMEOUT = 3.0


class Answer(Enum):
    """What an answer to SUBSCRIBE means."""

    SUBSCRIBED = "subscribed"
    # The agent is starting or recovering.
    RETRY = "retry"
    # "Framework/Executor cannot be found": the agent does not own this executor.
    DISOWNED = "disowned"
    # Token missing or wrong.
    FORBIDDEN = "forbidden"


# HTTP status -> meaning. What is not here is retried: an agent of another version, a proxy.
ANSWERS = {
    200: Answer.SUBSCRIBED,
    400: Answer.DISOWNED,
    401: Answer.FORBIDDEN,
    403: Answer.FORBIDDEN,
    404: Answer.RETRY,
    503: Answer.RETRY,
}


def meaning(status: int) -> Answer:
    """Of the status of an answer to SUBSCRIBE."""
    return ANSWERS.get(status, Answer.RETRY)


def pause(backoff_max: float, chance: float) -> float:
    """Seconds until the next attempt.

    Args:
        backoff_max: MESOS_SUBSCRIPTION_BACKOFF_MAX: also the length of the agent's window.
        chance: Uniform in [0, 1): executors of one agent must not come all at once.
    """
    return chance * min(MAX_PAUSE, backoff_max / 2)


def next_attempt_at(since: float, now: float, backoff_max: float, chance: float) -> float:
    """When to try again.

    Args:
        since: When the last attempt began, or the stream that stood was lost: an attempt that took its time, because
            nobody answered, has waited already.
        now: The time.
        backoff_max: As for `pause`.
        chance: As for `pause`.
    """
    return max(now, since + pause(backoff_max, chance))


def give_up_at(*, lost_at: float, ever_subscribed: bool, checkpoint: bool, recovery_timeout: float) -> float:
    """When the agent counts as gone for good.

    Args:
        lost_at: When the stream was lost, or the driver first started.
        ever_subscribed: A SUBSCRIBED has come at some time.
        checkpoint: MESOS_CHECKPOINT is "1".
        recovery_timeout: MESOS_RECOVERY_TIMEOUT, seconds.
    """
    if not ever_subscribed:
        return lost_at + FIRST_TIMEOUT
    # Without checkpointing a restarted agent does not know this executor: waiting is of no use.
    return lost_at + recovery_timeout if checkpoint else lost_at
