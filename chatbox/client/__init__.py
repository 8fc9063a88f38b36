"""The client: what people and scripts talk to a server with."""
