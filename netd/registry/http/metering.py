"""What calls of guests cost: beside one of their rate, the time that others wait for them."""

import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Generic, TypeVar

from netd.registry.dns.limits import Bucket

T = TypeVar("T")

SHARE: Final = 0.25  # of the time, that one guest may have for itself


class Metered(Generic[T]):
    """Awaits `work`, and takes from `bucket` whatever it keeps the event loop for beyond what a
    call is worth: who has a rate of 1000 has 1/1000 of `SHARE` of each second for each. What it
    waits for costs nothing. A bucket may so be owed to for seconds.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, T],
        bucket: Bucket,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._work = work
        self._bucket = bucket
        self._clock = clock

    def __await__(self) -> Generator[Any, Any, T]:
        thrown: BaseException | None = None
        while True:
            began_s = self._clock()
            try:
                work = self._work
                waits_for = work.send(None) if thrown is None else work.throw(thrown)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            finally:
                self._charge(self._clock() - began_s)
            thrown = None
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 # what ends the wait, the work is told
                thrown = error

    def _charge(self, used_s: float) -> None:
        calls = used_s * self._bucket.rate / SHARE
        if calls > 1:
            self._bucket.tokens -= calls - 1
