"""The record of promotions: a chain that shows changes, and who holds an alias."""

import json
import multiprocessing
import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest

from medgan.core.errors import ConfigError, DataError
from medgan.tracking import decisions
from medgan.tracking.client import connect, sqlite_uri
from medgan.tracking.promotions import History
from medgan.tracking.versions import history_of

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

    def get_registered_model(self, name):
        return SimpleNamespace(tags=self.tags)

    def delete_registered_model_tag(self, name, key):
        del self.tags[key]


@pytest.mark.parametrize(("action", "version"), [("promoted", "4"), ("rolled back", "2")])
def test_a_kill_in_the_middle_leaves_a_champion_that_is_vouched_for(
    action, version, tags, monkeypatch
):
    store = Store(tags, "3")
    monkeypatch.setattr(decisions, "connect", lambda uri, write: store)
    with pytest.raises(Killed):
        decisions.record(
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


class Server(Store):
    """A store of several machines: another one decides between two calls."""

    def __init__(self, tags, version, before):
        super().__init__(tags, version)
        self.before = before

    def _call(self):
        self.calls += 1
        if self.calls == 2 and self.before == "its alias":
            self.rival()

    def get_registered_model(self, name):
        if self.before == "it looks":
            self.rival()
        return super().get_registered_model(name)

    def rival(self):
        """Another record of the same number, made from the same state."""
        self.before = ""
        history = History.read({k: t for k, t in self.tags.items() if ".0004." not in k})
        key, text = history.next("promoted", ALIAS, "5", "c", "3", "bob").tag
        self.tags[key] = text


@pytest.mark.fault("gate race")
def test_of_two_promotions_at_once_on_a_server_the_one_that_sees_the_other_withdraws(
    tags, monkeypatch
):
    promotion = History.read(tags).next("promoted", ALIAS, "4", "c", "3", "ann")
    store = Server(dict(tags), "3", "it looks")
    monkeypatch.setattr(decisions, "connect", lambda uri, write: store)
    with pytest.raises(ConfigError, match="another champion was promoted meanwhile"):
        decisions.record("", "brain", promotion)
    assert store.alias == "3"
    assert promotion.tag[0] not in store.tags
    store = Server(dict(tags), "3", "its alias")  # which then sees this one, and withdraws
    decisions.record("", "brain", promotion)
    assert store.alias == "4"


def promote_all(uri, version, turns, start, passed):
    """One of two: it decides on what it has read, as soon as the other has read it, too."""
    for _ in range(turns):
        known = history_of(uri, "brain")
        start.wait()
        with suppress(ConfigError):  # the other was first
            with decisions.deciding(uri, "brain", ALIAS, known) as history:
                made = history.next("promoted", ALIAS, version, "c", "", "ann")
                decisions.record(uri, "brain", made)
            passed[int(version) - 1] += 1
        start.wait()


@pytest.mark.fault("gate race")
@pytest.mark.parametrize(
    ("kind", "turns"), [("threads", 3), pytest.param("processes", 50, marks=pytest.mark.slow)]
)
def test_of_two_that_promote_at_once_exactly_one_passes(kind, turns, database, measured):
    uri = sqlite_uri(database)
    client = connect(uri, write=True)
    client.create_registered_model("brain")
    for _ in range(2):
        client.create_model_version("brain", source="nowhere")
    if kind == "threads":
        start, passed, make = threading.Barrier(2, timeout=60), [0, 0], threading.Thread
    else:
        spawned = multiprocessing.get_context("spawn")
        start, passed = spawned.Barrier(2, timeout=60), spawned.Array("i", 2)
        make = spawned.Process
    both = [
        make(target=promote_all, args=(uri, version, turns, start, passed))
        for version in ("1", "2")
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    history = history_of(uri, "brain")
    assert len(history.records) == sum(passed) == turns
    assert history.faults == ()
    holder = client.get_model_version_by_alias("brain", ALIAS).version
    assert history.records[-1].version == str(holder)
    measured(f"{turns} times two {kind} at once: {sum(passed)} promotions, {turns} refusals")
