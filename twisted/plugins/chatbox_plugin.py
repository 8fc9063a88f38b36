"""What ``twistd`` and ``twist`` must know to offer the chatbox command.

This is read at every ``twistd --help``, so it holds data only; `chatbox.tap` is imported when the
command is used.
"""

from twisted.application.service import ServiceMaker

chatbox = ServiceMaker(
    name="chatbox",
    module="chatbox.tap",
    description="A chat room with a file shelf.",
    tapname="chatbox",
)
