"""How a backend says no."""


class Declined(str):
    """What a backend's function returns, instead of a result, for arguments that it does not compute: the reason.

    The dispatcher then asks the next backend. Not an exception: refusing is ordinary, and must cost next to nothing.
    """

    __slots__ = ()
