"""Downloads: from the request to the file on the disk, and to the person who waits for it.

`Downloads` (in `downloads`) is the way in. It has those of one session, each of them a `Download`
(in `transfers`). That is handed a `fetcher`, which begins transfers with `chatbox.rdt`, and keeps
what comes in a `PartFile` (in `download`), which has a `place` on the disk and a `journal` beside
it; these are loaded when a download begins and not before. `names` says what it may be called,
`shares` divides the rate among several, `progress_line` says how far they are, and `desktop` opens
what has come.
"""
