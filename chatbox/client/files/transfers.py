"""One download as the person who asked for it sees it: from the request to the file or the reason.

A `Download` mirrors in its `stage` what the transfer reports, passes on what the person wants, and
tells in words what happens. The transfer itself (`chatbox.rdt`) and the file (`PartFile`) are
handed in, so that this can be tested without either, and so that the code for both is loaded only
when a download begins.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from chatbox.client import words
from chatbox.client.actions import Steering
from chatbox.client.chat.events import Offer
from chatbox.client.exits import Exit, exit_for_end
from chatbox.errors import LocalError, NoSocket, RemoteError
from chatbox.text import printable

if TYPE_CHECKING:
    from chatbox.client.files.download import PartFile
    from chatbox.client.files.journal import Beginning
    from chatbox.rdt.progress import Progress
    from chatbox.rdt.receiver import Ended

__all__ = ["TRANSITIONS", "Download", "Fetch", "Stage", "Transfer"]

MAX_RTT: Final = 2.0
"""Seconds. An answer that takes longer says more of a busy server than of the way to it."""


class Transfer(Protocol):
    """A transfer on its way, as `chatbox.rdt.fetch.fetch` returns it. Each call may be repeated."""

    def pause(self) -> None:
        """Let it wait."""

    def proceed(self) -> None:
        """Let it go on."""

    def cancel(self) -> None:
        """Give it up."""

    def doubt(self) -> None:
        """The chat connection has ended: find out at once whether the server is there."""

    def interrupt(self) -> None:
        """End it, but keep what has arrived."""

    def set_rate_limit(self, rate: int | None) -> None:
        """Let it take at most so many bytes per second; None for no limit."""

    def progress(self) -> Progress:
        """How far it is."""


class Fetch(Protocol):
    """Begins a transfer. `listener` hears the events of `chatbox.rdt.receiver`."""

    def __call__(
        self,
        offer: Offer,
        target: PartFile,
        listener: Callable[[object], None],
        *,
        pause_half_way: bool,
        rate_limit: int | None,
        rtt: float,
    ) -> Transfer:
        """`rate_limit` as for `Transfer.set_rate_limit`; `rtt` is the round trip of the chat in
        seconds, 0 if not known.

        Raises RemoteError if the offer makes no sense, NoSocket, or another OSError if the file
        cannot be written."""

    def prepare(self, target: PartFile, size: int, then: Callable[[], None]) -> None:
        """Have `target` wait for its disk; call `then` when it need not any more, though it may
        have been given up by then."""


MAX_RETURNS: Final = 20
"""How often in a row one download goes on after the server went away, if nothing new comes of it.
What has more of the file each time gets there, however often; what has not has more wrong with it
than patience can cure."""


class Stage(Enum):
    """How far a download is."""

    ASKED = "asked"  # for a ticket
    OPENING = "opening"  # the server has yet to answer over UDP
    RUNNING = "running"
    PAUSED = "paused"  # by us
    HALF_WAY = "half way"  # the server stopped to ask
    ENDED = "ended"


# ASKED again, when the server has gone away and is expected back.
_LIVE: Final = frozenset({Stage.RUNNING, Stage.PAUSED, Stage.HALF_WAY, Stage.ASKED, Stage.ENDED})
TRANSITIONS: Final[Mapping[Stage, frozenset[Stage]]] = {
    Stage.ASKED: frozenset({Stage.OPENING, Stage.ENDED}),
    Stage.OPENING: _LIVE,
    Stage.RUNNING: _LIVE,
    Stage.PAUSED: _LIVE,
    Stage.HALF_WAY: _LIVE,
    Stage.ENDED: frozenset(),
}


class Download:
    """One file on its way from the server to `path`.

    Made when the file is asked for. `tell` takes lines for the person. `changed` is called after
    every change of `stage`. `clock` gives seconds, to say how long it took. `rate_limit` is as for
    `take_at_most`. `ask_again` is called when the transfer has ended because the server went
    away, with whether it has said so: it asks for the file as soon as that can be, or says that it
    will not.
    """

    def __init__(
        self,
        name: str,
        target: PartFile,
        path: str,
        *,
        tell: Callable[[str], None],
        changed: Callable[[], None],
        clock: Callable[[], float],
        pause_half_way: bool = True,
        rate_limit: int | None = None,
        hint: str,
        ask_again: Callable[[Download, bool], bool] | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.stage = Stage.ASKED
        self.alone = False
        """Nobody is there to type `/proceed`: go on by itself whenever it stands."""
        self.own_limit: int | None = None
        """What the person lets this one take, as others may not, in bytes per second."""
        self.status: Exit | None = None
        """How it ended, as an exit status; None before."""
        self.ended: Ended | None = None
        """How the transfer ended; None before, and for good if there never was one."""
        self.last_words = ""
        """The last line that was told about it."""
        self._target = target
        self._tell = tell
        self._changed = changed
        self._clock = clock
        self._pause_half_way = pause_half_way
        self._rate_limit = rate_limit
        self._hint = hint
        self._ask_again = ask_again
        self._returned = False
        """The server went away once, and was asked again."""
        self._returns = 0
        """How often since more of the file was here than ever before."""
        self._most = 0
        """Bytes that were here when most was."""
        self._doubted = False
        """The chat connection has ended since it began."""
        self._transfer: Transfer | None = None
        self._offer: Offer | None = None
        """What is about to begin, as soon as the disk is ready for it."""
        self._server = ""
        self._asked_at = clock()
        self._started_at = 0.0

    def ask(self) -> None:
        """The server is asked for it only now, or once more."""
        self._asked_at = self._clock()

    def begin(self, offer: Offer, fetch: Fetch, host: str) -> None:
        """The server has given a ticket: fetch the file from `host`."""
        if self.stage is not Stage.ASKED:
            return  # given up meanwhile; the ticket expires by itself
        self._server = f"UDP port {offer.port} of {printable(host)}"
        waited = self._clock() - self._asked_at
        if not self._returned:
            self._started_at = self._clock()
        self._doubted = False
        self._offer = offer
        target = self._target
        target.expect(offer.mtime_ms, offer.digest)
        if not target.is_free:
            self._say(f"{self._shown} waits: the disk has yet to take what came of it before.")
        rtt = waited if 0 < waited < MAX_RTT else 0.0
        fetch.prepare(target, offer.size, lambda: self._begin(offer, target, fetch, rtt))

    def _begin(self, offer: Offer, target: PartFile, fetch: Fetch, rtt: float) -> None:
        """The disk is ready for it, or will never be."""
        if self._offer is not offer:
            target.give_up()
            return
        self._offer = None
        try:
            self._transfer = fetch(
                offer,
                target,
                self._on_event,
                pause_half_way=self._pause_half_way,
                rate_limit=self._rate_limit,
                rtt=rtt,
            )
        except RemoteError as error:
            self.refuse(printable(error.detail or error.code), Exit.BAD_DATA)
        except NoSocket as error:
            why = f"no UDP socket can be had here: {words.os_error_text(error)}"
            self.refuse(why, Exit.NO_UDP)
        except OSError as error:
            from chatbox.rdt.ends import end_for

            self.refuse(words.os_error_text(error), exit_for_end(end_for(error), was_heard=False))
        else:
            what = f"{words.size_text(offer.size)}, to {printable(self.path)}"
            found = _beginning_text(self._target.beginning, self._target.resumed_from, offer.size)
            if not self._returned:
                self._say(f"{self._shown}: {what}{found}")
            elif self._target.resumed_from and offer.size:
                at = self._target.resumed_from * 100 // offer.size
                self._say(f"{self._shown} goes on, at {at} %.")
            else:
                self._say(f"{self._shown} begins again{found}")
            if self.stage is Stage.ASKED:
                self._become(Stage.OPENING)

    def refuse(self, sentence: str, status: Exit) -> None:
        """There will be no transfer."""
        self._offer = None
        if self.stage is not Stage.ENDED:
            self.status = status
            self._say(f"No download of {self._shown}: {sentence}")
            self._become(Stage.ENDED)

    def steer(self, steering: Steering) -> None:
        """Pass on what the person wants. What comes of it is told when the transfer reports it."""
        if self._transfer is None:
            if steering is Steering.CANCEL:
                self.refuse("cancelled.", Exit.CANCELLED)
            else:
                self._say(f"{self._shown} has not begun yet.")
        elif steering is Steering.CANCEL:
            self._transfer.cancel()
        elif steering is Steering.PAUSE:
            self._transfer.pause()
        else:
            self._transfer.proceed()

    def doubt(self) -> None:
        """The chat connection has ended, so the server may be gone."""
        if self._transfer is not None and self.stage is not Stage.ENDED:
            self._doubted = True
            self._transfer.doubt()

    def limit(self, rate: int | None) -> None:
        """The person wants it to take at most `rate` bytes per second; None for no such wish."""
        self.own_limit = rate
        how = "no limit of its own" if rate is None else f"at most {words.rate_text(rate)}"
        self._say(f"{self._shown}: {how} from now on.")

    def take_at_most(self, rate: int | None) -> None:
        """Take at most `rate` bytes per second from now on; None for as many as there come."""
        if rate != self._rate_limit:
            self._rate_limit = rate
            if self._transfer is not None:
                self._transfer.set_rate_limit(rate)

    def go_on_alone(self) -> None:
        """From now on proceed whenever the transfer stands."""
        self.alone = True
        if self.stage in (Stage.PAUSED, Stage.HALF_WAY):
            self._proceed_alone()

    def progress(self) -> Progress | None:
        """How far it is; None if nothing is on its way."""
        if self._transfer is None or self.stage is Stage.ENDED:
            return None
        return self._transfer.progress()

    @property
    def saved_as(self) -> str:
        """Where the file is, once it is complete: an absolute path."""
        return os.path.abspath((self.ended.path if self.ended else None) or self.path)

    def describe(self) -> str:
        """How far it is, in a line."""
        progress = self.progress()
        if progress is None:
            return f"{self._shown} waits for the {'server' if self._offer is None else 'disk'}."
        text = words.progress_text(self.name, progress)
        if self.stage in (Stage.HALF_WAY, Stage.PAUSED):
            text = f"{text}. {self._hint}"
        return text

    def interrupt(self) -> None:
        """This program ends, and the transfer with it: tell the server, and say where it stands."""
        progress = self.progress()
        self._offer = None
        if self._transfer is not None and progress is not None:
            self._transfer.interrupt()
            # It may just have come to its end.
            if self.ended is None or self.ended.end.name == "INTERRUPTED":
                kept = "; ask again, and it goes on there" if progress.confirmed else ""
                self._say(f"{self._shown} stops at {words.percent(progress)} %{kept}.")

    @property
    def _shown(self) -> str:
        return printable(self.name)

    def _say(self, line: str) -> None:
        self.last_words = line
        self._tell(line)

    def _become(self, stage: Stage) -> None:
        """The one place where `stage` changes."""
        if stage not in TRANSITIONS[self.stage]:
            raise LocalError(f"a download cannot go from {self.stage} to {stage}")
        self.stage = stage
        self._changed()

    def _on_event(self, event: object) -> None:
        """Hear what the transfer reports."""
        from chatbox.rdt import receiver

        if self.stage is Stage.ASKED:  # reported from within `fetch`
            self._become(Stage.OPENING)
        match event:
            case receiver.Opened():
                self._become(Stage.RUNNING)
            case receiver.Paused(half_way=half_way):
                self._stand(half_way)
            case receiver.Resumed():
                self._say(f"{self._shown} goes on.")
                self._become(Stage.RUNNING)
            case receiver.Ended():
                self._end(event)
            case _:
                pass  # a newer transfer may report more

    def _stand(self, half_way: bool) -> None:
        """The transfer has come to a stop; somebody must say what now."""
        progress = self._transfer.progress() if self._transfer else None
        where = f"{words.percent(progress)} %" if progress else "the start"
        self._become(Stage.HALF_WAY if half_way else Stage.PAUSED)
        if self.alone:
            self._proceed_alone()
        else:
            why = "stands half way, at" if half_way else "waits at"
            self._say(f"{self._shown} {why} {where}. {self._hint}")

    def _proceed_alone(self) -> None:
        self._say(f"{self._shown} stands, and no more input will come: it goes on by itself.")
        if self._transfer is not None:
            self._transfer.proceed()

    def _end(self, ended: Ended) -> None:
        """The transfer is over, one way or the other."""
        if self._may_return(ended):
            return
        self.ended = ended
        self.status = exit_for_end(ended.end, was_heard=self.stage is not Stage.OPENING)
        silent_server = self._server if self.stage is Stage.OPENING else None
        seconds = self._clock() - self._started_at
        if ended.end.name != "INTERRUPTED":
            self._say(words.ended_text(self.name, self.path, ended, seconds, silent_server))
        self._become(Stage.ENDED)

    def _may_return(self, ended: Ended) -> bool:
        """See whether the server went away, and can be asked again; if so, be ready for that."""
        was_there = self.stage is not Stage.OPENING or self._doubted
        silent = ended.end.name == "PEER_SILENT" and was_there
        if self._ask_again is None or not (silent or ended.end.name == "SERVER_STOPPING"):
            return False
        here = self._transfer.progress().confirmed if self._transfer else 0
        if here > self._most:
            self._most, self._returns = here, 0
        if self._returns >= MAX_RETURNS:
            return False
        try:
            self._target = self._target.again()
        except OSError:  # somebody has put something else in its place
            return False
        self._returns += 1
        self._returned = True
        self._transfer = None
        if silent:
            self._say(f"{self._shown} waits: nothing comes from the server any more.")
        self._become(Stage.ASKED)
        if not self._ask_again(self, not silent):
            self.refuse("the server has gone away.", Exit.LOST)
        return True


def _beginning_text(beginning: Beginning, resumed_from: int, size: int) -> str:
    """Say, at the end of a sentence, what a download has found of an earlier attempt."""
    match beginning.name:
        case "RESUMED":
            return f"; resuming at {100 * resumed_from // size} %"
        case "CHANGED":
            return "; the file has changed since the last attempt: starting over"
        case "UNUSABLE":
            return "; what the last attempt has left cannot be used: starting over"
        case _:
            return ""
