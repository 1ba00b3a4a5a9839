"""Questions, and the shapes that answers to them have."""

from typing import NamedTuple

from netd.naming.values import Answer, Record, Scope, Topics
from netd.naming.visibility import Visibility


class Question(NamedTuple):
    """`steps`, where there is a list, gets in words what is done."""

    name: str
    kind: str
    scope: Scope
    steps: list[str] | None

    def say(self, step: str) -> None:
        if self.steps is not None:
            self.steps.append(step)


def some(records: tuple[Record, ...], soa: Record, topics: Topics) -> Answer:
    """A name that there is: with records, or with the word that it has none of this type."""
    return Answer("NOERROR", records, (), () if records else (soa,), True, topics)


def unknown(soa: Record, topics: Topics) -> Answer:
    """A name that there is not, and that nobody else is to be asked for."""
    return Answer("NXDOMAIN", (), (), (soa,), True, topics)


def elsewhere(asked: Question, visibility: Visibility, topics: Topics) -> Answer:
    """Not a name of netd's."""
    if visibility.forwards(asked.scope):
        asked.say("no name of netd's: others are asked")
        return Answer("FORWARD", aa=False, topics=topics)
    asked.say("no name of netd's, and who asks is on no network that leads outside")
    return Answer("REFUSED", aa=False, topics=topics)


def with_topics(answer: Answer, topics: Topics) -> Answer:
    """The same answer, which depends on these too."""
    return Answer(
        answer.rcode,
        answer.records,
        answer.additional,
        answer.authority,
        answer.aa,
        tuple(dict.fromkeys(topics + answer.topics)),
    )
