"""Which part of a log is held out."""

from torch import Tensor


def held_out_start(first: Tensor, fraction: float) -> int:
    """Return where the held-out part of a stream begins: its last `fraction`.

    first: [time]; where an episode starts within half a held-out part of that place, the cut is
    there. Raises ValueError where less than two transitions would be left on either side.
    """
    time = len(first)
    begin = time - round(fraction * time)
    starts = first.nonzero().flatten()
    starts = starts[(starts - begin).abs() <= (time - begin) // 2]
    starts = starts[(starts >= 2) & (starts <= time - 2)]
    if len(starts):
        begin = int(starts[(starts - begin).abs().argmin()])
    if not 2 <= begin <= time - 2:
        raise ValueError(
            f"holding out {fraction:g} of {time} transitions leaves {begin} to learn from and "
            f"{time - begin} to measure on; both must be at least 2"
        )
    return begin
