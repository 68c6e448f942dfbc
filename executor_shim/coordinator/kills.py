"""Which tasks are being ended, and what is to be done about each next. Pure: no clock, no I/O; times are seconds.

| phase       | event                                  | next        | action                              |
|-------------|----------------------------------------|-------------|-------------------------------------|
| (none)      | terminate, limit in the future         | TERMINATING | TERM                                |
| (none)      | terminate, limit reached; kill         | KILLING     | KILL                                |
| TERMINATING | terminate, limit in the future         | TERMINATING | TERM; the new limit replaces the old |
| TERMINATING | limit reached; terminate in the past; kill | KILLING | KILL                                |
| TERMINATING | last own child ended, or pause is over | TERMINATING | LOOK                                |
| KILLING     | last own child ended, or pause is over | KILLING     | KILL                                |
| KILLING     | terminate                              | KILLING     | - (there is no way back)            |
| TERMINATING | a start when nothing is left           | (none)      | report                              |
| KILLING     | a start when no own child is left      | KILLING     | KILL at once: (none) if that finds nothing |
| any         | two looks in a row found nothing       | (none)      | report                              |
| KILLING     | `STUCK_AFTER` s and something is left  | KILLING     | report stuck, go on                 |
"""

from __future__ import annotations

INFINITY = float("inf")

TERMINATING = "terminating"
KILLING = "killing"

TERM = "term"
KILL = "kill"
LOOK = "look"

AGAIN = "again"
GONE = "gone"
STUCK = "stuck"

STUCK_AFTER = 10.0
"""Seconds after the first SIGKILL from which survivors count as stuck (D state, other user's)."""

_FIRST_PAUSE = 0.005
_LAST_PAUSE = 0.5


class _Kill:
    __slots__ = ("kill_at", "look_at", "next", "pause", "phase", "quiet", "since", "stuck")

    def __init__(self) -> None:
        self.phase = TERMINATING
        self.kill_at = INFINITY
        self.since = INFINITY
        self.next = LOOK
        self.look_at = INFINITY
        self.pause = _FIRST_PAUSE
        self.quiet = 0
        self.stuck = False


class Kills:
    """All tasks that are being ended."""

    __slots__ = ("_kills",)

    def __init__(self) -> None:
        self._kills: dict[str, _Kill] = {}

    def __contains__(self, task: str) -> bool:
        return task in self._kills

    def __len__(self) -> int:
        return len(self._kills)

    def killing(self, task: str) -> bool:
        """SIGKILL is on its way to all of the task, so that a start would be in vain."""
        kill = self._kills.get(task)
        return kill is not None and kill.phase == KILLING

    def in_grace(self, task: str) -> bool:
        """The task has been asked to end and still has time."""
        kill = self._kills.get(task)
        return kill is not None and kill.phase == TERMINATING

    def terminate(self, task: str, kill_at: float, now: float) -> None:
        """Ask politely now, kill at `kill_at`."""
        kill = self._kills.setdefault(task, _Kill())
        if kill.phase == KILLING:
            return
        if kill_at <= now:
            self._escalate(kill, now)
            return
        kill.kill_at = kill_at
        kill.next, kill.look_at = TERM, now

    def kill(self, task: str, now: float) -> None:
        """Kill without asking."""
        kill = self._kills.setdefault(task, _Kill())
        if kill.phase != KILLING:
            self._escalate(kill, now)

    def poke(self, task: str, now: float) -> None:
        """The last own child of the task has ended: see whether that was all."""
        kill = self._kills.get(task)
        if kill is not None:
            kill.look_at = now

    def make_way(self, task: str) -> None:
        """Nothing of the task is left and something new starts: what was asked of the old is not for the new."""
        kill = self._kills.get(task)
        if kill is not None and kill.phase == TERMINATING:
            del self._kills[task]

    def take_due(self, now: float) -> list[tuple[str, str]]:
        """Actions that are due, each one followed by `looked` once it is carried out."""
        actions = []
        for task, kill in self._kills.items():
            if kill.phase == TERMINATING and kill.kill_at <= now:
                self._escalate(kill, now)
            if kill.look_at <= now:
                actions.append((task, kill.next))
        return actions

    def looked(self, task: str, found: int, alive: int, now: float, *, fresh: bool = False) -> str:
        """What the look at a task's processes has found.

        Args:
            task: whose.
            found: processes found anywhere.
            alive: own children of the task: while there are some, the end of the last one will be heard of.
            now: time.
            fresh: some of what was found had not been there at the last look: it multiplies, so be quick.

        Returns:
            `AGAIN`: nothing was found, a second look at once must confirm it. `GONE`: confirmed, the task is dropped
            here. `STUCK`: said once, when SIGKILL has not helped for `STUCK_AFTER` seconds. Empty: go on later.
        """
        kill = self._kills[task]
        kill.next = KILL if kill.phase == KILLING else LOOK
        if not found and not alive:
            kill.quiet += 1
            if kill.quiet < 2:
                kill.look_at = now
                return AGAIN
            del self._kills[task]
            return GONE
        kill.quiet = 0
        if kill.phase == TERMINATING and alive:
            kill.look_at = INFINITY
            return ""
        if fresh:
            kill.pause = _FIRST_PAUSE
        kill.look_at = now + kill.pause
        kill.pause = min(2 * kill.pause, _LAST_PAUSE)
        if not kill.stuck and now - kill.since >= STUCK_AFTER:
            kill.stuck = True
            return STUCK
        return ""

    def due(self) -> float:
        """When `take_due` will have something to say."""
        return min((min(kill.look_at, kill.kill_at) for kill in self._kills.values()), default=INFINITY)

    @staticmethod
    def _escalate(kill: _Kill, now: float) -> None:
        kill.phase = KILLING
        kill.kill_at = INFINITY
        kill.since = now
        kill.next, kill.look_at = KILL, now
        kill.pause = _FIRST_PAUSE
        kill.quiet = 0
