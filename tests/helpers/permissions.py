"""Who may ask for what, and when: the table of permissions, worked out from the table of requests.

``python -m tests.helpers.permissions`` prints it as `docs/protocol.rst` has it.
"""

from __future__ import annotations

from typing import Final

from chatbox.chat.codes import Code
from chatbox.chat.session import REQUESTS, Request
from chatbox.chat.states import State

ROLES: Final = ("user", "muted", "operator")

YES: Final = "yes"
WAITS: Final = "waits"
NO_ANSWER: Final = "no answer"

COLUMNS: Final = (
    ("NAMELESS", State.NAMELESS, "user"),
    ("JOINING", State.JOINING, "user"),
    ("HERE", State.HERE, "user"),
    ("HERE, muted", State.HERE, "muted"),
    ("HERE, operator", State.HERE, "operator"),
    ("GONE", State.GONE, "user"),
)
"""Those of the table. Who has no name yet has no role either."""

SPEAKING: Final = {"message_request"}
"""What somebody who is muted may not ask for."""


def permission(name: str, request: Request, state: State, role: str) -> str:
    """What becomes of a request: `YES`, `WAITS`, `NO_ANSWER`, or the word of the refusal."""
    if state is State.GONE:
        return NO_ANSWER
    if state is State.JOINING:
        return WAITS
    if state not in request.states:
        here = state is State.HERE
        return str(Code.ALREADY_CONNECTED if here else Code.NOT_CONNECTED)
    if state is State.HERE and request.operator and role != "operator":
        return str(Code.NOT_ALLOWED)
    if state is State.HERE and name in SPEAKING and role == "muted":
        return str(Code.MUTED)
    return YES


def rows() -> list[list[str]]:
    """The table: the name of each request, and a cell for each of `COLUMNS`."""
    return [
        [name, *(permission(name, request, state, role) for _, state, role in COLUMNS)]
        for name, request in REQUESTS.items()
    ]


def main() -> None:
    """Print it."""
    print(".. list-table::\n   :header-rows: 1\n")
    heads = [heading for heading, _, _ in COLUMNS]
    for first, *others in [["``t``", *heads], *rows()]:
        print(f"   * - {first if first[0] == '`' else f'``{first}``'}")
        for cell in others:
            print(f"     - {f'``{cell}``' if cell in set(Code) else cell}")


if __name__ == "__main__":
    main()
