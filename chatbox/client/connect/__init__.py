"""The way to a server: which one, whether it may be trusted, and the connection itself.

`find` looks for one nearby, and `hosts` makes an endpoint of what a person calls it. `access` is
what was said about the way, such as TLS and a password; `secure` judges the certificate by what
`trust` remembers. At the end of the way is `connection`: `join_server` is all that most callers
need. `reconnector` comes back when it is cut.
"""
