"""A pointer on the way to a watched place is aimed elsewhere and the value stays the same: gdb
moves its locations with no word, at the next resume."""

import re

import pytest
from harness import line

FIXTURE = "silent_moves"
WALK = "list_walk"
NOT_THERE = ("untrapped", "no trap", "location number", "Could not insert", "Warning")
OF_KWATCH = ("kwatch ", "kwatch:")  # not the bare word, which may be in a path


def stops_of(session, fixture, place, commands, kwatch=True):
    """What each stop of gdb's own watchpoints printed."""
    with session(fixture, kwatch=kwatch) as gdb:
        gdb.run_to(place)
        for command in commands:
            gdb.cmd(command)
        return gdb.run_out()


def without_blocks(texts):
    """Where one store hit several, and gdb tells of one, the block is added."""
    block = r"\n\d+ watchpoints hit by one instruction\n(?:[^\n]+\n)+"
    return [re.sub(block, "", text) for text in texts]


def told(trap):
    return trap["line"], [(h["expression"], h["old"], h["new"]) for h in trap["hits"]]


def at(mark, fixture=FIXTURE):
    return line(f"{fixture}.c", mark)


def slots_as_listed(gdb):
    """The slots that `kwatch list` tells of, and those that `kwatch slots` finds enabled."""
    listed = {slot for entry in gdb.list().values() for slot in entry["slots"]}
    held = [slot for slot in gdb.json("kwatch slots")[0]["slots"] if slot["enabled"]]
    return listed, {slot["slot"] for slot in held}, [slot["owners"] for slot in held]


@pytest.mark.parametrize(
    "commands",
    [
        ["watch cur->v"],
        ["watch cur->v", "watch x"],
        ["watch cur->v", "watch x", "watch first.w"],
        ["watch cur->v if x == 1", "watch x", "watch first.w"],
        ["watch cur->v", "watch first.v", "rwatch first.w"],
        ["watch x", "watch cur->v", "awatch first.w"],
    ],
    ids=", ".join,
)
def test_gdbs_own_stop_as_in_bare_gdb(session, commands):
    bare = stops_of(session, FIXTURE, "main", commands, kwatch=False)
    ours = stops_of(session, FIXTURE, "main", commands)
    assert len(bare) > 3
    assert without_blocks(ours) == bare
    for text in ours:
        assert not any(word in text for word in NOT_THERE)


@pytest.mark.parametrize("more", [[], ["kwatch x", "kwatch first.w"]], ids=["alone", "all slots"])
def test_a_kwatch_follows(session, more):
    with session(FIXTURE) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch cur->v")
        for command in more:
            gdb.cmd(command)
        stops = gdb.run_out()
        traps = [t for t in gdb.stops() if t["hits"][0]["number"] == 2]
    assert all(t["origin"] == "user" for t in traps)
    assert [told(t) for t in traps] == [
        (at("the new place"), [("cur->v", "0", "1")]),
        (at("once more"), [("cur->v", "1", "2")]),
        (at("both members"), [("cur->v", "2", "3")]),
        (at("as in the old place"), [("cur->v", "3", "5")]),
        (at("where the kernel aimed"), [("cur->v", "5", "6")]),
    ]
    for text in stops:
        assert not any(word in text for word in NOT_THERE + OF_KWATCH)


def test_one_store_to_two_of_them_is_one_trap(session):
    with session(FIXTURE) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch cur->v")
        gdb.cmd("kwatch second.w")
        gdb.cmd(f"tbreak {at('both members')}")
        out = gdb.cont()
        while "Temporary breakpoint" not in out:
            out = gdb.cont()
        out = gdb.cont()
        assert "2 watchpoints hit by one instruction" in out
        trap = gdb.stops()[-1]
    assert told(trap) == (
        at("both members"),
        [("cur->v", "2", "3"), ("second.w", "0", "13")],
    )


def test_every_write_of_the_new_place(session):
    """The move itself is a write to what leads there, and told."""
    with session(FIXTURE) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -every cur->v")
        gdb.run_out()
        traps = gdb.stops()
    assert [t["origin"] for t in traps] == ["user"] * 6
    assert [told(t)[0] for t in traps] == [
        at("aimed elsewhere"),
        at("the new place"),
        at("once more"),
        at("both members"),
        at("as in the old place"),
        at("where the kernel aimed"),
    ]
    assert told(traps[0])[1] == [("cur->v", "0", "unchanged")] or traps[0]["hits"][0]["old"] == "0"


def test_accesses_at_the_new_place(session):
    with session(FIXTURE) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch -a cur->v")
        gdb.run_out()
        lines = [t["line"] for t in gdb.stops()]
    assert at("the old place") not in lines
    for mark in ("the new place", "once more", "both members", "where the kernel aimed"):
        assert at(mark) in lines


def test_the_kernel_aims_it(session):
    """No trap tells of it; the next one finds the place, though the program does not stop there."""
    commands = ["watch from_kernel->v", "watch x if x == 3", "watch first.w"]
    place = str(at("as in the old place"))
    bare = stops_of(session, FIXTURE, place, commands, kwatch=False)
    assert len(bare) == 2
    assert stops_of(session, FIXTURE, place, commands) == bare


def test_the_user_aims_it(session):
    """In all four slots, by a write to the pointer."""
    commands = ["watch cur->v", "watch x if x > 5", "watch first.w", "set var cur = &second"]
    bare = stops_of(session, FIXTURE, "main", commands, kwatch=False)
    assert len(bare) == 5
    assert stops_of(session, FIXTURE, "main", commands) == bare


def test_what_is_listed_is_what_the_registers_hold(session):
    with session(FIXTURE) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch cur->v")
        gdb.cmd("watch first.w")
        gdb.cont()
        listed, held, owners = slots_as_listed(gdb)
        assert listed == held
        assert len(held) == 3
        assert all(owners)
        assert gdb.list()[2]["address"] == hex(int(gdb.value("(long) &second.v")))


CHAINS = [
    ["watch cur->next->v"],
    ["watch cur->next->next->v"],
    ["watch cur->next->v", "watch turns"],
    ["watch cur->v", "watch turns", "watch ring[0].next"],
    ["watch cur->next->v if turns == 4", "watch turns if turns == 5"],
]


@pytest.mark.parametrize("commands", CHAINS, ids=", ".join)
def test_a_list_is_walked(session, commands):
    place = str(at("linked", WALK))
    bare = stops_of(session, WALK, place, commands, kwatch=False)
    ours = stops_of(session, WALK, place, commands)
    assert len(bare) > 1
    assert without_blocks(ours) == bare
    for text in ours:
        assert not any(word in text for word in NOT_THERE)


def test_kwatches_along_a_list(session):
    """Three slots for what leads there, one for the value; nobody else ever gets one."""
    with session(WALK) as gdb:
        gdb.run_to(str(at("linked", WALK)))
        gdb.cmd("kwatch cur->next->next->v")
        stops = gdb.run_out()
        traps = gdb.stops()
    assert len(stops) == len(traps)
    assert all(t["origin"] == "user" for t in traps)
    values = [(h["old"], h["new"]) for t in traps for h in t["hits"]]
    assert values[0] == ("0", "1")
    assert all(one[1] == two[0] for one, two in zip(values, values[1:]))
    for text in stops:
        assert not any(word in text for word in NOT_THERE + OF_KWATCH)


@pytest.mark.parametrize("expression", ["line->v", "line->next->v"])
def test_the_end_of_a_list(session, expression):
    """A NULL pointer: gdb watches address 0, which is no foreign user's."""
    place = str(at("from the start", WALK))
    bare = stops_of(session, WALK, place, [f"watch {expression}"], kwatch=False)
    ours = stops_of(session, WALK, place, [f"watch {expression}"])
    assert ours == bare
    with session(WALK) as gdb:
        gdb.run_to(place)
        gdb.cmd("next")
        gdb.cmd(f"kwatch {expression}")
        stops = gdb.run_out()
        traps = gdb.stops()
    assert len(stops) == len(traps) == len(bare) - 1
    assert not any("foreign" in text for text in stops)
    values = [(h["old"], h["new"]) for t in traps for h in t["hits"]]
    assert all(one[1] == two[0] for one, two in zip(values, values[1:]))
    assert ("4", "<unreadable>") in values


def test_a_trace_after_the_end_of_a_list(session):
    """What the trace holds counts, although gdb has watched address 0."""
    with session(WALK) as gdb:
        gdb.run_to(str(at("from the start", WALK)))
        gdb.cmd("next")
        gdb.cmd("watch line->next")
        while gdb.value("line") != "(struct node * volatile) 0x0":
            assert "watchpoint 2: line->next" in gdb.cont()
        gdb.cmd("delete 2")
        gdb.cmd("kwatch trace cur")
        assert "kwatch trace" in gdb.cmd("kwatch slots")
        for name in ("[1].v", "[1].next", "[0].v"):
            gdb.cmd(f"watch ring{name}")
        assert "waits for a slot" in gdb.cmd("watch ring[2].v")


def test_what_is_chosen_changes(session):
    """A condition on the way: gdb watches another part from then on, with three slots and more."""
    commands = ["watch x ? first.w : cur->v", "watch second.w"]
    bare = stops_of(session, FIXTURE, "main", commands, kwatch=False)
    ours = stops_of(session, FIXTURE, "main", commands)
    assert len(bare) == 1
    assert without_blocks(ours) == bare


def test_one_that_waits_is_not_hit(session):
    """The pointer that it shares is in a register for others; and without a process nobody gets a
    slot."""
    with session(WALK) as gdb:
        gdb.run_to(str(at("linked", WALK)))
        gdb.cmd("kwatch cur->v")
        gdb.cmd("kwatch cur->next->v")
        assert "waits for a slot" in gdb.cmd("kwatch cur->next->next->v")
        stops = gdb.run_out()
        numbers = [[h["number"] for h in t["hits"]] for t in gdb.stops()]
        assert [2, 3] in numbers
        assert not any(4 in some for some in numbers)
        assert not any("installed" in text for text in [*stops, gdb.ending])
        states = {number: entry["state"] for number, entry in gdb.list().items()}
        assert states == {2: "pending", 3: "pending", 4: "waiting"}


def test_all_that_a_relocation_hits(session):
    """Before it the pointer is NULL; what it leads to may not even be evaluated then."""
    with session(FIXTURE) as gdb:
        gdb.run_to("main")
        gdb.cmd("kwatch who->number")
        gdb.cmd("kwatch *who->name@3")
        out = gdb.cmd("run")
        hits = [(h["number"], h["old"], h["new"]) for h in gdb.stops()[-1]["hits"]]
        assert hits == [(2, "<unreadable>", "1"), (3, "<unreadable>", '"one"')]
        assert "2 watchpoints hit by one instruction" in out
        assert "Old value =" not in out
        assert out.count("elf_dynamic_do_") <= 1
        assert [entry["hits"] for entry in gdb.list().values()] == [1, 1]


def test_a_pointer_that_another_thread_aims(session):
    """All four slots in use; at a trap of one thread the other has moved the place already."""
    commands = ["watch cur->v", "watch x if x < 0", "watch y"]
    bare = stops_of(session, "pointer_of_threads", "main", commands, kwatch=False)
    assert len(bare) == 2
    assert stops_of(session, "pointer_of_threads", "main", commands) == bare
