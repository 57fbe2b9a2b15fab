"""kwatch in gdb's DAP server, as an editor has it: gdb 14 and later."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from dap_client import DapClient
from harness import gdb_command, line

from gdb_kwatch.linux import perf_event


@pytest.fixture(scope="module", autouse=True)
def has_dap():
    """Skips all of this where the gdb under test serves no DAP."""
    ask = "python import importlib.util; print('dap', bool(importlib.util.find_spec('gdb.dap')))"
    words = [*gdb_command(), "-nx", "-batch", "-ex", "python print(gdb.VERSION)", "-ex", ask]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60).stdout
    if "dap True" not in said:
        pytest.skip(f"gdb {said.split()[0]} has no DAP server (new in gdb 14)")


@pytest.fixture
def dap():
    opened = []

    def start(**options):
        opened.append(DapClient(**options))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def at_main(dap, program):
    """A session that stands in main of a fixture."""

    def start(name, **arguments):
        client = dap()
        client.able = client.to_main(program(name), **arguments)
        return client

    return start


def go_to(dap, mark, source="editor_variables.c"):
    """On to the line with that mark."""
    dap.repl(f"tbreak {source}:{line(source, mark)}")
    assert dap.cont()["reason"] == "breakpoint"


def info(dap, name, **arguments):
    return dap.ask("dataBreakpointInfo", name=name, **arguments)


def put(dap, *points):
    """`setDataBreakpoints`; each point is (dataId, access type, more...)."""
    wanted = [{"dataId": p[0], "accessType": p[1], **(p[2] if len(p) > 2 else {})} for p in points]
    return dap.ask("setDataBreakpoints", breakpoints=wanted)["breakpoints"]


def scope(dap, name):
    """The reference of a scope of the innermost frame."""
    scopes = dap.ask("scopes", frameId=dap.frame()["id"])["scopes"]
    return next(s["variablesReference"] for s in scopes if s["name"] == name)


def child(dap, reference, name):
    """The variable of that name below a reference."""
    children = dap.ask("variables", variablesReference=reference)["variables"]
    return next(c for c in children if c["name"] == name)


# Events.


def test_no_breakpoint_event_tells_of_a_sentinel(at_main):
    dap = at_main("simultaneous")
    dap.repl("kwatch s.a")
    dap.repl("kwatch -a s.b")
    dap.repl("watch s.c")
    dap.cont()
    dap.repl("delete 3")
    dap.cont()
    dap.repl("delete")
    dap.run_out()
    told = dap.events("breakpoint")
    assert {body["breakpoint"]["id"] for body in told} == {1, 2, 3, 4}
    assert {body["reason"] for body in told} == {"new", "changed", "removed"}


def test_one_of_gdbs_own_that_waits_is_not_verified(at_main):
    dap = at_main("simultaneous")
    for name in ("s.a", "s.b", "s.c", "s.d", "other"):
        dap.repl(f"watch {name}")
    dap.repl("condition 6 other > 0")

    def last(number):
        bodies = [body["breakpoint"] for body in dap.events("breakpoint")]
        return [body for body in bodies if body["id"] == number][-1]

    assert [last(number)["verified"] for number in (2, 3, 4, 5, 6)] == [True] * 4 + [False]
    assert last(6)["reason"] == "pending"
    assert last(6)["message"] == "watch 6 waits for a slot: it needs 1 of 4, 0 free."
    dap.repl("delete 2")
    assert last(6)["verified"] and "reason" not in last(6)


def test_the_hidden_ones_are_there_and_bare_gdb_would_tell_of_them(at_main):
    dap = at_main("simultaneous")
    dap.repl("kwatch s.a")
    assert "$_kwatch" in dap.repl("maint info breakpoints")
    dap.messages.clear()  # the words above are not to be seen by an editor


@pytest.mark.parametrize("command", ["kwatch", "watch"])
def test_a_stop_that_gdb_would_have_missed(at_main, command):
    dap = at_main("blamed_unchanged")
    dap.repl(f"{command} pair.a")
    dap.repl(f"{command} pair.b")
    stop = dap.cont()
    assert stop["reason"] == "data breakpoint"
    assert stop["hitBreakpointIds"] == [2, 3]
    assert stop["description"] == "pair.a: 0 -> 1, pair.b: 0 (unchanged)"
    assert stop["threadId"] == 1 and stop["allThreadsStopped"]
    assert dap.frame()["name"] == "store"


def test_the_block_is_an_output_event_after_the_stop(at_main):
    dap = at_main("simultaneous")
    dap.repl("kwatch s.a")
    dap.repl("kwatch s.c")
    dap.cont()
    said = dap.event("output", lambda body: "hit by one instruction" in body["output"])
    text = said["output"]
    assert said["category"] == "console"
    assert text.startswith("\n2 watchpoints hit by one instruction\n")
    assert "Hardware watchpoint 2: s.a" in text and "simultaneous.c:9" in text
    events = [message.get("event") for message in dap.messages]
    stop = max(n for n, event in enumerate(events) if event == "stopped")
    block = max(n for n, event in enumerate(events) if event == "output")
    assert stop < block


@pytest.mark.skipif(perf_event.why_not() is not None, reason=f"no perf: {perf_event.why_not()}")
def test_a_write_by_the_kernel(at_main):
    dap = at_main("syscall")
    dap.repl("kwatch -k buf[16]")
    stop = dap.cont()
    assert stop["reason"] == "data breakpoint" and stop["hitBreakpointIds"] == [2]
    assert stop["description"] == "buf[16]: 0 '\\000' -> 103 'g'"
    dap.event("output", lambda body: "hit by the kernel" in body["output"])


def test_a_warning_is_an_output_event(at_main):
    dap = at_main("simultaneous")
    for name in ("s.a", "s.b", "s.c", "s.d", "other"):
        dap.repl(f"watch {name}")
    assert "waits for a slot: it needs 1 of 4, 0 free" in dap.output()
    dap.repl("delete")


def test_ordinary_stops_are_as_before(at_main, dap, program):
    def stops(client):
        found = []
        for request in ("next", "next", "stepIn", "stepOut", "next"):
            client.ask(request, threadId=1)
            found.append(client.event("stopped"))
        return found

    with_kwatch = at_main("stepping")
    with_kwatch.repl("kwatch pair.a if 0")
    bare = dap(kwatch=False)
    bare.to_main(program("stepping"))
    bare.repl("watch pair.a if 0")
    assert stops(with_kwatch) == stops(bare)


# The REPL.


def test_kwatch_through_evaluate(at_main):
    dap = at_main("simultaneous")
    assert dap.repl("kwatch s.a") == "Hardware watchpoint 2: s.a\n"
    assert re.search(r"^2 +kwatch .* installed .* s\.a$", dap.repl("kwatch list"), re.M)
    message = dap.refused("evaluate", expression="kwatch nobody", context="repl")
    assert message == 'No symbol "nobody" in current context.'
    dap.cont()
    (trap,) = json.loads(dap.repl("kwatch hits -json"))
    assert [(h["number"], h["old"], h["new"]) for h in trap["hits"]] == [(2, "0", "1")]


def test_what_is_put_off_to_the_prompt_is_done_at_the_end_of_a_request(at_main):
    """A script has deleted all that it did not make."""
    dap = at_main("blamed_unchanged")
    dap.repl("kwatch pair.a")
    dap.repl("kwatch pair.b")
    dap.repl("python [b.delete() for b in gdb.breakpoints.__wrapped__() if b.number < 0]")
    assert "another script has deleted" in dap.output()
    assert dap.cont()["description"] == "pair.a: 0 -> 1, pair.b: 0 (unchanged)"


# dataBreakpointInfo.


def test_data_breakpoints_are_a_capability(at_main):
    able = at_main("simultaneous").able
    assert able["supportsDataBreakpoints"] and able["supportsDataBreakpointBytes"]


def test_info_by_expression(at_main):
    dap = at_main("simultaneous")
    found = info(dap, "s.a")
    assert found == {
        "dataId": "s.a",
        "description": "s.a (8 bytes at 0x5555555580c0)",
        "accessTypes": ["read", "write", "readWrite"],
        "canPersist": True,
    }
    assert info(dap, "nobody") == {
        "dataId": None,
        "description": 'No symbol "nobody" in current context.',
    }
    assert info(dap, "s.a + 1")["dataId"] == "s.a + 1"
    assert info(dap, "1 + 1")["dataId"] is None
    assert "side effects" in info(dap, "s.a++")["description"]


def test_info_by_variable(at_main):
    dap = at_main("editor_variables")
    go_to(dap, "locals are there")
    inner = child(dap, scope(dap, "Globals"), "line")
    to = child(dap, inner["variablesReference"], "to")
    child(dap, to["variablesReference"], "y")
    found = info(dap, "y", variablesReference=to["variablesReference"])
    assert (found["dataId"], found["canPersist"]) == ("line.to.y", True)
    counts = child(dap, scope(dap, "Globals"), "counts")
    child(dap, counts["variablesReference"], "1")
    found = info(dap, "1", variablesReference=counts["variablesReference"])
    assert (found["dataId"], found["canPersist"]) == ("counts[1]", True)


def test_info_of_locals_and_the_heap_cannot_persist(at_main):
    dap = at_main("editor_variables")
    go_to(dap, "locals are there")
    local = child(dap, scope(dap, "Locals"), "local")
    child(dap, local["variablesReference"], "x")
    found = info(dap, "x", variablesReference=local["variablesReference"])
    assert found["dataId"] and found["canPersist"] is False
    by_name = info(dap, "local.x", frameId=dap.frame()["id"])
    assert by_name["canPersist"] is False
    heap = child(dap, scope(dap, "Globals"), "heap")
    there = child(dap, heap["variablesReference"], "value")
    child(dap, there["variablesReference"], "y")
    found = info(dap, "y", variablesReference=there["variablesReference"])
    assert found["dataId"] and found["canPersist"] is False
    assert info(dap, "heap->y")["canPersist"] is False
    assert info(dap, "heap")["canPersist"] is True


def test_info_of_a_static_that_only_its_function_knows(at_main):
    dap = at_main("editor_variables")
    assert info(dap, "calls")["dataId"] is None
    go_to(dap, "locals are there")
    found = info(dap, "calls", frameId=dap.frame()["id"])
    assert found["canPersist"] is False
    (point,) = put(dap, (found["dataId"], "write"))
    assert point["verified"]
    assert dap.cont()["description"].endswith(": 0 -> 1")
    assert dap.cont()["description"].endswith(": 1 -> 2")  # in another call


def test_info_of_a_cpp_reference(at_main):
    dap = at_main("cpp_class")
    found = info(dap, "same")
    assert found["dataId"] and found["canPersist"] is True
    globals_ = scope(dap, "Globals")
    child(dap, globals_, "same")
    shown = info(dap, "same", variablesReference=globals_)
    assert shown["dataId"]
    put(dap, (shown["dataId"], "write"))
    assert "x = 3" in dap.cont()["description"]


def test_info_of_what_was_evaluated(at_main):
    """A watch expression's children: only their memory is known."""
    dap = at_main("editor_variables")
    go_to(dap, "locals are there")
    result = dap.ask("evaluate", expression="*heap", context="watch", frameId=dap.frame()["id"])
    child(dap, result["variablesReference"], "y")
    found = info(dap, "y", variablesReference=result["variablesReference"])
    assert found["dataId"] and found["canPersist"] is False
    put(dap, (found["dataId"], "write"))
    assert dap.cont()["description"].endswith(": 0 -> 1")


def test_info_by_address_and_bytes(at_main):
    dap = at_main("simultaneous")
    address = dap.repl('printf "0x%lx", (long) &s')
    found = info(dap, address, asAddress=True, bytes=16)
    assert found["dataId"] and found["canPersist"] is False
    assert found["description"] == f"{address} (16 bytes at {address})"
    assert info(dap, "s", bytes=4)["description"] == f"s (4 bytes at {address})"
    assert "48 bytes are more than" in info(dap, "s", bytes=48)["description"]
    assert info(dap, "s", bytes=48)["dataId"] is None
    assert info(dap, "16", asAddress=True, bytes=4)["dataId"] is None


def test_info_of_a_register_variable(at_main):
    dap = at_main("simultaneous")
    found = info(dap, "$rip")
    assert found["dataId"] is None and "register" in found["description"]
    registers = scope(dap, "Registers")
    child(dap, registers, "rip")
    found = info(dap, "rip", variablesReference=registers)
    assert found["dataId"] is None and "rip is not in memory" in found["description"]


# setDataBreakpoints.


@pytest.mark.parametrize(
    ("access", "what"),
    [("write", "0 -> 1"), ("readWrite", "0 -> 1"), ("read", "2 (unchanged)")],
)
def test_a_data_breakpoint_stops(at_main, access, what):
    dap = at_main("simultaneous")
    (point,) = put(dap, ("s.a", access))
    assert point == {"id": 2, "verified": True}
    stop = dap.cont()
    assert stop["reason"] == "data breakpoint" and stop["hitBreakpointIds"] == [2]
    assert stop["description"] == f"s.a: {what}"


def test_all_that_one_instruction_hit(at_main):
    dap = at_main("simultaneous")
    points = put(dap, ("s.a", "write"), ("s.b", "write"), ("s.c", "readWrite"))
    assert [point["id"] for point in points] == [2, 3, 4]
    stop = dap.cont()
    assert stop["hitBreakpointIds"] == [2, 3, 4]
    assert stop["description"] == "s.a: 0 -> 1, s.b: 0 (unchanged), s.c: 0 -> 1"


def test_replacing_keeps_the_same_ones(at_main):
    dap = at_main("simultaneous")
    put(dap, ("s.a", "write"), ("s.b", "write"))
    assert [p["id"] for p in put(dap, ("other", "write"), ("s.a", "write"))] == [4, 2]
    assert put(dap) == []
    assert "No breakpoints" in dap.repl("info breakpoints")


def test_four_others_fit_where_four_were(at_main):
    dap = at_main("simultaneous")
    put(dap, *((f"s.{name}", "write") for name in "abcd"))
    points = put(dap, ("other", "write"), *((f"s.{name}", "readWrite") for name in "abc"))
    assert all(point["verified"] for point in points)


def test_a_fifth_waits_for_a_slot(at_main):
    dap = at_main("simultaneous")
    points = put(dap, *((f"s.{name}", "write") for name in "abcd"), ("other", "write"))
    assert [point["verified"] for point in points] == [True] * 4 + [False]
    assert points[4]["reason"] == "pending" and "waits for a slot" in points[4]["message"]
    points = put(dap, ("s.b", "write"), ("other", "write"))
    assert points[1]["verified"]
    dap.repl("delete")
    assert {"id": points[1]["id"], "verified": False} in [
        body["breakpoint"] for body in dap.events("breakpoint") if body["reason"] == "removed"
    ]


def test_one_that_the_user_deletes_is_gone(at_main):
    dap = at_main("simultaneous")
    (point, _) = put(dap, ("s.a", "write"), ("s.c", "write"))
    dap.repl(f"delete {point['id']}")
    dap.cont()
    dap.cont()
    told = [b for b in dap.events("breakpoint") if b["breakpoint"]["id"] == point["id"]]
    assert [body["reason"] for body in told] == ["removed"]
    assert [p["verified"] for p in put(dap, ("s.a", "write"), ("s.c", "write"))] == [True, True]


def test_a_condition_and_a_hit_condition(at_main):
    dap = at_main("editor_variables")
    put(dap, ("after", "write", {"condition": "after < 0"}))
    assert dap.cont()["description"] == "after: 1 -> -1"
    put(dap, ("after", "write", {"hitCondition": "1 + 1"}))
    assert dap.cont()["description"] == "after: -2 -> 3"


def test_a_bad_condition_is_told(at_main):
    dap = at_main("simultaneous")
    (point,) = put(dap, ("s.a", "write", {"condition": "nobody == 1"}))
    assert point["verified"] is False and "nobody" in point["message"]
    assert "No breakpoints" in dap.repl("info breakpoints")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"hitCondition": "other = 2"}, "other = 2 has side effects"),
        ({"logMessage": "a is {s.a}, {other++}"}, "other++ has side effects"),
        ({"logMessage": "a is {both(3)}"}, "both(3) has side effects"),
        ({"logMessage": "a", "condition": "(both)(3)"}, "(both)(3) calls a function"),
    ],
)
def test_what_would_change_the_program_is_refused(at_main, given, why):
    dap = at_main("simultaneous")
    (point,) = put(dap, ("s.a", "write", given))
    assert point["verified"] is False and point["message"].startswith(why)
    assert "No breakpoints" in dap.repl("info breakpoints")
    assert dap.repl("output other").strip() == dap.repl("output s.a").strip() == "0"


def test_a_log_message(at_main):
    dap = at_main("editor_variables")
    message = {"logMessage": "after is {after}, {nobody}", "condition": "after > 0"}
    (point,) = put(dap, ("after", "write", message))
    assert point["verified"]
    dap.run_out()
    said = [x for x in dap.output().splitlines() if x.startswith("after is")]
    wrong = '<No symbol "nobody" in current context.>'
    assert said == [f"after is {n}, {wrong}" for n in (1, 2, 3)]
    assert len(dap.events("stopped")) == 1  # main


def test_a_log_message_of_one_that_gdb_misses(at_main):
    """pair.b is blamed and stays as it is; pair.a says its word."""
    dap = at_main("blamed_unchanged")
    put(dap, ("pair.a", "write", {"logMessage": "a is {pair.a}"}), ("pair.b", "write"))
    stop = dap.cont()
    assert stop["description"].endswith("pair.b: 0 -> 5")
    assert [x for x in dap.output().splitlines() if x.startswith("a is")] == ["a is 1", "a is 2"]


def test_a_local_ends_with_its_function(at_main):
    dap = at_main("editor_variables")
    go_to(dap, "locals are there")
    found = info(dap, "local.x", frameId=dap.frame()["id"])
    (point,) = put(dap, (found["dataId"], "write"))
    assert point["verified"]
    assert dap.cont()["description"] == "local.x: 1 -> 2"
    assert dap.cont()["reason"] in ("data breakpoint", "stopped")  # its scope ends
    (point,) = put(dap, (found["dataId"], "write"))
    assert point["verified"] is False
    assert point["message"] == "The function that it belongs to has returned."


def test_the_heap_by_the_memory_that_is_shown(at_main):
    dap = at_main("editor_variables")
    go_to(dap, "locals are there")
    heap = child(dap, scope(dap, "Globals"), "heap")
    there = child(dap, heap["variablesReference"], "value")
    child(dap, there["variablesReference"], "y")
    found = info(dap, "y", variablesReference=there["variablesReference"])
    put(dap, (found["dataId"], "write"))
    stop = dap.cont()
    assert stop["description"].endswith(": 0 -> 1")
    assert line("editor_variables.c", "heap store") <= dap.frame()["line"]


def test_address_and_bytes(at_main):
    dap = at_main("simultaneous")
    address = dap.repl('printf "0x%lx", (long) &s')
    found = info(dap, address, asAddress=True, bytes=16)
    (point,) = put(dap, (found["dataId"], "write"))
    assert point["verified"]
    stop = dap.cont()
    assert stop["reason"] == "data breakpoint" and f"-size 16 {address}" in stop["description"]


def test_what_means_nothing_is_refused(at_main):
    dap = at_main("simultaneous")
    points = put(dap, ("#7 old", "write"), ("nobody", "write"), ("s.a", "write"))
    assert [point["verified"] for point in points] == [False, False, True]
    assert points[0]["message"] == "That place belongs to an earlier session."
    assert points[1]["message"] == 'No symbol "nobody" in current context.'
    assert dap.cont()["hitBreakpointIds"] == [points[2]["id"]]


def test_one_from_an_earlier_session_waits_for_the_program(dap, program):
    """An editor sends what it has kept before it launches anything."""
    client = dap()
    client.initialize()
    (point,) = put(client, ("s.a", "write"))
    assert point["verified"] is False and point["reason"] == "pending"
    client.launch(program("simultaneous"))
    told = client.event("breakpoint", lambda body: body["breakpoint"]["id"] == point["id"])
    assert told["reason"] == "changed" and told["breakpoint"]["verified"]
    stop = client.event("stopped")
    assert stop["reason"] == "data breakpoint"
    assert stop["hitBreakpointIds"] == [point["id"]]
    ids = {body["breakpoint"]["id"] for body in client.events("breakpoint")}
    assert ids == {point["id"]}


def test_where_gdb_has_data_breakpoints_itself_its_own_stay(dap, program, tmp_path):
    """As a later gdb may: here a script stands for it."""
    script = tmp_path / "own.py"
    script.write_text(
        "import gdb, sys\n"
        "server = sys.modules['gdb.dap.server']\n"
        "@server.request('setDataBreakpoints')\n"
        "def own(**args):\n"
        "    return {'breakpoints': [{'id': 77, 'verified': True}]}\n"
    )
    client = dap(extra=("-iex", f"source {script}"))
    able = client.to_main(program("simultaneous"))
    assert "supportsDataBreakpoints" not in able
    assert put(client, ("s.a", "write")) == [{"id": 77, "verified": True}]


def test_off_is_gdbs_own_server_and_on_again(at_main):
    dap = at_main("simultaneous")
    put(dap, ("s.a", "write"), ("s.c", "write"))
    dap.repl("kwatch off")
    assert dap.event("capabilities")["capabilities"]["supportsDataBreakpoints"] is False
    assert "dataBreakpointInfo" in dap.refused("dataBreakpointInfo", name="s.a")
    stop = dap.cont()
    assert stop["hitBreakpointIds"] == [3] and "description" not in stop
    dap.repl("kwatch on")
    assert dap.event("capabilities")["capabilities"]["supportsDataBreakpoints"] is True
    assert dap.cont()["hitBreakpointIds"] == [2, 3]
    assert [point["id"] for point in put(dap, ("s.c", "write"))] == [3]
    assert {body["breakpoint"]["id"] for body in dap.events("breakpoint")} <= {1, 2, 3}


def test_the_block_comes_also_where_the_user_has_a_new_hook(at_main, tmp_path):
    hook = tmp_path / "hook.gdb"
    hook.write_text("define hook-stop\necho mine\\n\nend\n")
    dap = at_main("simultaneous")
    dap.repl("kwatch s.a")
    dap.repl(f"source {hook}")
    dap.cont()
    dap.event("output", lambda body: "hit by one instruction" in body["output"])


def test_loaded_in_the_middle_of_a_session(dap, program):
    from harness import GDBINIT

    client = dap(kwatch=False)
    client.to_main(program("simultaneous"))
    client.repl(f"source {GDBINIT}")
    told = client.event("capabilities")
    assert told["capabilities"]["supportsDataBreakpoints"] is True
    put(client, ("s.a", "write"))
    assert client.cont()["description"] == "s.a: 0 -> 1"


def test_asked_for_while_the_program_runs(at_main):
    """It is set at the next stop."""
    dap = at_main("says_and_loops")
    dap.ask("continue", threadId=1)
    # gdb 16 lets a request wait for the next stop where it comes together with `continue`.
    dap.event("output", lambda body: "here" in body["output"])
    (point,) = put(dap, ("counter", "write"))
    assert point["verified"] is False and point["reason"] == "pending"
    assert "running" in point["message"]
    dap.ask("pause", threadId=1)
    assert dap.event("stopped")["reason"] == "pause"
    told = dap.event("breakpoint", lambda body: body["breakpoint"]["id"] == point["id"])
    assert told["breakpoint"]["verified"]
    assert dap.cont()["hitBreakpointIds"] == [point["id"]]
