"""What is being said: the room, the conversation with each client, and the lines on the wire."""
