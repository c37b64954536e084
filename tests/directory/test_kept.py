from hypothesis import given
from hypothesis import strategies as st

from posthouse.directory.kept import Kept

KEYS = st.integers(0, 20)
STEPS = st.lists(st.tuples(st.sampled_from(["put", "get", "drop", "clear"]), KEYS))


@given(st.integers(1, 12), STEPS)
def test_what_is_kept_is_right_and_bounded(capacity: int, steps: list[tuple[str, int]]) -> None:
    kept: Kept[int, str] = Kept(capacity)
    model: dict[int, str] = {}
    for number, (step, key) in enumerate(steps):
        if step == "put":
            kept.put(key, str(number))
            model[key] = str(number)
            assert kept.get(key) == str(number)
        elif step == "get":
            assert kept.get(key) in (None, model.get(key))
        elif step == "drop":
            kept.drop(key)
            model.pop(key, None)
            assert kept.get(key) is None
        else:
            kept.clear()
            model.clear()
        assert len(kept) <= max(2, capacity)


def test_what_is_asked_for_stays() -> None:
    kept: Kept[int, int] = Kept(10)
    kept.put(1, 1)
    for key in range(100, 200):
        kept.put(key, key)
        assert kept.get(1) == 1
    assert kept.get(100) is None
