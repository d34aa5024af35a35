"""Concrete topics found by pattern, without looking at all of them. Pure."""

from collections.abc import Iterator
from typing import Final, Generic, TypeAlias, TypeVar

NameT = TypeVar("NameT", bound=tuple[str, ...])
Place: TypeAlias = tuple[int, str]  # which part of a name, and what stands there

ANY: Final = "*"


class Names(Generic[NameT]):
    """A set of names of equally many parts."""

    def __init__(self) -> None:
        self._all: dict[NameT, None] = {}
        self._by_place: dict[Place, dict[NameT, None]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._all

    def __iter__(self) -> Iterator[NameT]:
        return iter(self._all)

    def add(self, name: NameT) -> None:
        """Take a name."""
        if name not in self._all:
            self._all[name] = None
            for place in enumerate(name):
                self._by_place.setdefault(place, {})[name] = None

    def discard(self, name: NameT) -> None:
        """Forget a name."""
        if name not in self._all:
            return
        del self._all[name]
        for place in enumerate(name):
            names = self._by_place[place]
            del names[name]
            if not names:
                del self._by_place[place]

    def matching(self, pattern: NameT) -> list[NameT]:
        """Return the names a pattern stands for, in which ``*`` is any part."""
        places = [place for place in enumerate(pattern) if place[1] != ANY]
        if len(places) == len(pattern):
            return [pattern] if pattern in self._all else []
        found = self._all
        for place in places:
            here = self._by_place.get(place, {})
            if len(here) < len(found):
                found = here
        return [name for name in found if all(name[index] == part for index, part in places)]
