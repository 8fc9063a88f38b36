"""
RDT: one file from a server to a client over UDP, reliably, sealed, and at the speed of the link.

The parts, each usable and tested alone, from the bottom up:

- `ranges`, `rtt`, `pacing`, `rate`: small numeric parts;
- `packet`: bytes on the wire <-> values; `seal`: keys, and sealing and opening whole trains;
- `recovery`: what is in flight, what is lost, what the path delivers; `congestion`: how much may be
  in flight;
- `sender` and `receiver`: the two ends of a transfer, without sockets, clocks or randomness of
  their own;
- `demux`: many senders behind one port; `udp`: the only module that knows sockets and the reactor.
"""
