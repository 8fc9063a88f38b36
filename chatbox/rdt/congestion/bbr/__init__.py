"""
BBRv3 (draft-ietf-ccwg-bbr): a sender that models the path instead of waiting for it to overflow.

The theory. A path is a pipe: it delivers at most so much a second (its bandwidth), and nothing goes
through in less than so long (its smallest round trip). The product of the two, the BDP, fills it;
what is in flight beyond that only stands in a queue. Both can be measured, but not at once: the
bandwidth shows only when the pipe is full, the round trip only when no queue stands. So BBR walks
in circles and looks at one after the other::

    Startup  double the rate each round until that brings nothing more
    Drain    let the queue of Startup run empty
    DOWN     send a little less than the path delivers: let others in, empty what a probe left
    CRUISE   send what the path delivers; 2-3 s, or as long as a Reno flow would need to refill it
    REFILL   a round at full rate, so that the probe starts from a full pipe
    UP       a quarter faster: does more arrive, or does it only queue or get lost?
    ProbeRTT every 5 s without a new minimum: half a pipe for 200 ms, to see the path without us

The parts, in the order in which they are best read:

- what is measured, each filter with its own theory: `rounds`, `bandwidth`, `min_rtt`,
  `aggregation`, `full_pipe`;
- what losses mean, and what they leave: `loss`, `bounds`;
- all of this together, which is the path as we know it: `model`;
- what follows from the model, a window and a rate: `control`;
- the states above as tables: `states`; and what moves between them, which is the `Controller`:
  `machine`.

The names that the draft gives to things stand in the docstrings; its sections are quoted.

Where we depart from the draft, and why:

1. Background loss is no signal, and mostly made up for; an overflow is cut by BETA: see `loss`
   and `bounds`.
2. While UP, the draft restarts the search for a plateau whenever the long-term bound holds the flow
   back, so a bounded probe goes on until it loses. We do that only as long as more can come of it:
   while no queue stands, while CRUISE found one (others are here, and the share is being settled),
   or while the rate has grown. A flow that is alone stops when it has built a queue of its own.
3. A round that stands in a queue and yet delivers less than half of what the model says lowers the
   short-term model without any loss: the link got slower. In the draft such a flow may keep a queue
   for ever, for half of a pipe that is overestimated fourfold never lets ProbeRTT see the minimum.
   For the same reason a probe that ProbeRTT cuts short counts as one for the bandwidth filter.
4. A silence of `STALE_AFTER` makes the model void; Startup begins from a fraction of it. The draft
   paces at the last estimate whatever its age, but our transfers pause for hours. What was counted
   for `ExtraAcked` before any silence is forgotten; the draft keeps the count and moves its start.
5. There is no pacing before the first round trip is known: the initial window leaves at once. The
   draft guesses one millisecond, which is the same in practice.
6. Startup and UP end after two flat rounds, not three, if the second met a queue: a third would
   only overflow it. And Startup paces by the window too, half of which is what the last round
   delivered: a sample of a flight that took part of a round trip to leave is less, and with pacing
   from such samples alone every round lasts half as long again. Once a round trip shows a queue,
   Startup takes nothing for aggregation, and gives back what it took: what exceeds an estimate that
   still grows is growth, and a window with that on top overflows the queue. What Startup has lost
   is answered by leaving it; told of later, it says nothing against the lower rate. What Drain sent
   is no measure of the path.
7. The sampler is not ours to mark as application-limited in ProbeRTT; samples of what left during
   it are ignored here instead. Likewise "in recovery" is a round that saw a loss.
8. We are a program among others, and both machines are late at times, by more than a short path
   takes. So round trips and rates are measured without the time for which data and acknowledgements
   waited for a program (`Acked.held`); what is in flight includes it, so the longest of late is
   added to the bounds; and when the path ran dry because we came late, what it delivered counts as
   limited by the application, and lowers nothing.

All sizes are in bytes, times in seconds, rates in bytes per second.
"""
