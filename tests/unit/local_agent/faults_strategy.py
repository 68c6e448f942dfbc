"""Random faults that make sense."""

from __future__ import annotations

from hypothesis import strategies as st

from services.local_agent.faults.validation import EFFECTS, TYPES
from trivet.agent.v1 import faults_pb2

Fault = faults_pb2.Fault
_IDS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)
_COUNTS = st.integers(1, 2**32 - 1)
_UNKNOWN_TYPES = st.integers(-(2**31), 2**31 - 1).filter(lambda number: not 0 <= number <= 9)


@st.composite
def any_fault(draw: st.DrawFn, target: str = "") -> Fault:
    """Every field that may be set is sometimes set."""
    fault = Fault()
    target = target or draw(st.sampled_from(sorted(EFFECTS)))
    effect = draw(st.sampled_from(EFFECTS[target]))
    if target == "connection":
        fault.connection.SetInParent()
    else:
        setattr(fault, target, draw(st.sampled_from(list(TYPES[target].values()))))
        fault.executor_id = draw(st.just("") | _IDS)
        if fault.event in (2, 3, 4, 8, 100) if target == "event" else fault.call in (1, 2, 100):
            fault.task_id = draw(st.just("") | _IDS)
    body = getattr(fault, effect)
    body.SetInParent()
    if effect == "refuse" and target == "call":
        body.status = draw(st.integers(400, 599))
        body.body = draw(st.just("") | _IDS)
    elif effect == "delay":
        body.seconds = draw(st.floats(0, 86_400, exclude_min=True))
    elif effect == "cut":
        body.reset = draw(st.booleans())
        if target == "event":
            body.after_bytes = draw(st.just(0) | _COUNTS)
    elif effect == "corrupt":
        how = draw(st.sampled_from(["flip_bytes", "record_length", "event_type"]))
        values = {"flip_bytes": _COUNTS, "record_length": st.just("") | _IDS, "event_type": _UNKNOWN_TYPES}
        setattr(body, how, draw(values[how].filter(lambda value: "\n" not in str(value))))
    elif effect == "rechunk":
        how = draw(st.sampled_from(["chunk_bytes", "events_per_chunk"]))
        setattr(body, how, draw(_COUNTS.filter(lambda count: count > 1 or how == "chunk_bytes")))
    if (target, effect) != ("connection", "refuse"):
        fault.skip = draw(st.just(0) | _COUNTS)
        fault.times = draw(st.just(0) | _COUNTS)
        fault.probability = draw(st.just(0.0) | st.floats(0, 1))
    fault.id = draw(st.just("") | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True))
    return fault
