"""The record of promotions: a chain that shows changes, and who holds an alias."""

import json

import pytest

from medgan.core.errors import DataError
from medgan.tracking import versions
from medgan.tracking.promotions import History

ALIAS = "champion"


def extended(tags, action, version, content="c", **more):
    """The tags with one more record."""
    history = History.read(tags)
    key, text = history.next(action, ALIAS, version, content, "", "ann", **more).tag
    return {**tags, key: text}


@pytest.fixture
def tags():
    found = {"owner": "radiology"}
    for version in ("1", "2", "3"):
        found = extended(found, "promoted", version, why=f"reason {version}")
    return found


def test_a_chain_of_promotions_is_read_in_order_without_faults(tags):
    history = History.read(dict(reversed(tags.items())))
    assert [one.version for one in history.records] == ["1", "2", "3"]
    assert history.faults == ()
    assert [one.previous for one in history.records[1:]] == [
        one.digest for one in history.records[:-1]
    ]


def test_a_changed_record_is_noticed(tags):
    key = sorted(tags)[1]
    changed = {**tags, key: tags[key].replace("reason 2", "reason 9")}
    assert changed != tags
    faults = History.read(changed).faults
    assert any("was changed" in fault for fault in faults)
    assert any("record 3 does not follow" in fault for fault in faults)


def test_a_record_that_was_rewritten_with_its_hash_breaks_the_one_after_it(tags):
    history = History.read(tags)
    second = history.records[1]
    values = json.loads(second.text) | {"version": "9"}
    key, text = type(second)(**{**values, "failed": ()}).tag
    changed = {k: v for k, v in tags.items() if k != second.tag[0]} | {key: text}
    assert History.read(changed).faults == ("record 3 does not follow the one before it",)


def test_a_record_that_was_taken_out_is_noticed(tags):
    del tags[sorted(tags)[1]]
    assert History.read(tags).faults == ("record 3 does not follow the one before it",)


def test_what_is_no_record_is_a_fault():
    found = History.read({"medgan.promotion.0001.abc": "{}", "medgan.promotion.x": "no JSON"})
    assert found.records == ()
    assert len(found.faults) == 2


def test_two_records_made_at_once_are_both_kept(tags):
    history = History.read(tags)
    more = [history.next("promoted", ALIAS, v, "c", "3", "ann").tag for v in ("4", "5")]
    both = History.read(tags | dict(more))
    assert {one.version for one in both.records[-2:]} == {"4", "5"}
    assert both.faults == ()


def test_a_roll_back_gives_the_alias_back_and_again(tags):
    tags = extended(tags, "rolled back", "2")
    assert [one.version for one in History.read(tags).holders(ALIAS)] == ["1", "2"]
    tags = extended(tags, "rolled back", "1")
    assert [one.version for one in History.read(tags).holders(ALIAS)] == ["1"]
    assert History.read(tags).holders("challenger") == []


def test_two_who_roll_back_at_once_do_it_once(tags):
    history = History.read(tags)
    both = [history.next("rolled back", ALIAS, "2", "c", "3", who).tag for who in ("ann", "bob")]
    history = History.read(tags | dict(both))
    assert [one.version for one in history.holders(ALIAS)] == ["1", "2"]
    assert history.vouches_for(ALIAS, "2", "c")


class Killed(BaseException):
    """In place of SIGKILL."""


class Store:
    """Keeps tags and aliases; the process dies at the second call."""

    def __init__(self, tags, version):
        self.tags, self.alias, self.calls = tags, version, 0

    def _call(self):
        self.calls += 1
        if self.calls == 2:
            raise Killed

    def set_registered_model_tag(self, name, key, text):
        self._call()
        self.tags[key] = text

    def set_registered_model_alias(self, name, alias, version):
        self._call()
        self.alias = version


@pytest.mark.parametrize(("action", "version"), [("promoted", "4"), ("rolled back", "2")])
def test_a_kill_in_the_middle_leaves_a_champion_that_is_vouched_for(
    action, version, tags, monkeypatch
):
    store = Store(tags, "3")
    monkeypatch.setattr(versions, "connect", lambda uri, write: store)
    with pytest.raises(Killed):
        versions.record(
            "", "brain", History.read(tags).next(action, ALIAS, version, "c", "3", "ann")
        )
    history = History.read(store.tags)
    assert history.vouches_for(ALIAS, store.alias, "c")
    if action == "rolled back":  # and the same command finishes it
        assert history.holders(ALIAS)[-2].version == version


def test_a_refusal_changes_no_holder(tags):
    tags = extended(tags, "refused", "4", failed=["AUROC: 0.5; less than 0.6"])
    assert History.read(tags).holders(ALIAS)[-1].version == "3"


def test_only_the_champion_with_its_files_is_vouched_for(tags):
    history = History.read(tags)
    assert history.vouches_for(ALIAS, "3", "c")
    assert not history.vouches_for(ALIAS, "3", "other files")
    assert not history.vouches_for(ALIAS, "1", "c")
    assert not history.vouches_for("challenger", "3", "c")


def test_the_champion_before_counts_until_the_alias_has_moved_but_not_after_a_roll_back(tags):
    assert History.read(tags).vouches_for(ALIAS, "2", "c")
    back = History.read(extended(tags, "rolled back", "2"))
    assert back.vouches_for(ALIAS, "2", "c")
    assert not back.vouches_for(ALIAS, "3", "c")
    assert not back.vouches_for(ALIAS, "1", "c")


def test_a_record_too_long_for_a_store_is_refused():
    with pytest.raises(DataError, match="E_VALUE the record"):
        _ = History().next("promoted", ALIAS, "1", "c", "", "ann", why="w" * 5000).tag
