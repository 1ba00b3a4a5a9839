"""What is due when, against a model that looks at everything."""

from hypothesis import given
from hypothesis import strategies as st

from netd.registry.checks.schedule import Schedule

keys = st.integers(0, 20)
dues = st.floats(0, 100)
steps = st.one_of(
    st.tuples(st.just("put"), keys, dues),
    st.tuples(st.just("remove"), keys, st.just(0.0)),
    st.tuples(st.just("take"), st.integers(0, 5), dues),
)


@given(st.lists(steps, max_size=200))
def test_it_is_a_table_of_times(run: list[tuple[str, int, float]]) -> None:
    schedule: Schedule[int] = Schedule()
    model: dict[int, float] = {}
    for step, number, at in run:
        if step == "put":
            schedule.put(number, at)
            model[number] = at
        elif step == "remove":
            schedule.remove(number)
            model.pop(number, None)
        else:
            taken = schedule.take(at, number)
            due = sorted(known for known in model.values() if known <= at)[:number]
            assert [since for _, since in taken] == due
            assert all(model.pop(key) == since for key, since in taken)
        assert len(schedule) == len(model)
        assert schedule.next() == min(model.values(), default=None)


def test_what_is_put_off_for_ever_costs_no_memory() -> None:
    schedule: Schedule[int] = Schedule()
    for number in range(100_000):
        schedule.put(number % 10, float(number))
    assert len(schedule._heap) <= 2 * 10 + 65


def test_what_is_due_at_the_same_time_comes_in_the_order_in_which_it_was_put() -> None:
    schedule: Schedule[str] = Schedule()
    for key in ("c", "a", "b"):
        schedule.put(key, 1.0)
    assert [key for key, _ in schedule.take(1.0, 10)] == ["c", "a", "b"]
