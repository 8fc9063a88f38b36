"""
RDT: one file from a server to a client over UDP, reliably, sealed, and at the speed of the link.

The parts, each usable and tested alone, from the bottom up:

- `ranges`, `rtt`, `pacing`, `rate`: small numeric parts;
- `packet`: bytes on the wire <-> values; `seal`: keys, and sealing and opening whole trains;
- `recovery`: what is in flight, what is lost, what the path delivers; `congestion`: how much may be
  in flight;
- `sender` and `receiver`: the two ends of a transfer, without sockets, clocks or randomness of
  their own;
- `demux`: many senders behind one port; `admissions`: how many there may be;
- `socket_options`, `batch`: what the kernel is asked for; `udp`: trains through one socket; `pump`:
  one socket and one timer for all that is above; `service` and `fetch`: a server's ports, and a
  client's download, which are what the rest of chatbox sees.
"""
