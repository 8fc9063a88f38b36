"""What ``twistd`` and ``twist`` must know to offer the chatbox command and its kind of accounts.

This is read at every ``twistd --help``, so it holds data only; what is of chatbox is imported when
it is used.
"""

from typing import Any

from twisted.application.service import ServiceMaker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import ICheckerFactory
from twisted.plugin import IPlugin
from zope.interface import implementer

chatbox = ServiceMaker(
    name="chatbox",
    module="chatbox.tap",
    description="A chat room with a file shelf.",
    tapname="chatbox",
)


@implementer(ICheckerFactory, IPlugin)
class Argon2CheckerFactory:
    """Makes the checkers of ``--auth argon2:FILE``."""

    authType = "argon2"
    authHelp = (  # Twisted prints it as it is, and would print the blanks that indent a docstring
        "Checks passwords with a file of accounts, which has Argon2id hashes and is\n"
        "edited with the command chatbox passwd. Changes are noticed without a restart."
    )
    argStringFormat = "The file of accounts."
    credentialInterfaces = (IUsernamePassword,)

    def generateChecker(self, argstring: str) -> Any:
        """Make one. Raises ValueError, in words, if the file cannot be used."""
        from chatbox.checkers import Argon2Checker
        from chatbox.errors import LocalError
        from chatbox.passwords import Accounts, describe_trouble

        if not argstring:
            raise ValueError("name a file, as in argon2:FILE.")
        accounts = Accounts(argstring)
        try:
            accounts.load()
        except (LocalError, OSError) as error:
            trouble = describe_trouble(accounts.path, error)
            raise ValueError(f"{trouble}. To make it: chatbox passwd FILE NAME") from error
        return Argon2Checker(accounts)


argon2_checker = Argon2CheckerFactory()
