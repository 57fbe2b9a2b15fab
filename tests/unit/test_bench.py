"""The bench's own reckoning: medians, ratios pair by pair, what counts as measured, the tables."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"


@pytest.fixture(autouse=True)
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))


def module(name):
    return importlib.import_module(name)


# --- statistics ---------------------------------------------------------------


def test_a_spread_is_the_median_and_the_ends():
    figures = module("figures")
    assert figures.spread([5.0, 1.0, 3.0]) == figures.Spread(3.0, 1.0, 5.0)
    assert figures.spread([4.0, 2.0]).median == 3.0
    assert figures.spread([1.5]).text() == "1.50 [1.50..1.50]"
    assert figures.spread([1 / 3]).json() == {"median": 0.3333, "low": 0.3333, "high": 0.3333}


def test_ratios_are_taken_within_a_round():
    figures = module("figures")
    # The machine was twice as slow in the second round; the ratio of medians would be 20/15.
    assert figures.ratios([12.0, 24.0, 20.0], [10.0, 20.0, 15.0]).median == pytest.approx(1.2)
    assert figures.ratios([12.0, 24.0], [10.0, 20.0]) == figures.Spread(1.2, 1.2, 1.2)
    assert figures.differences([12.0, 25.0, 21.0], [10.0, 20.0, 20.0]) == figures.Spread(2, 1, 5)


def test_a_missing_round_is_an_error_and_so_is_none_at_all():
    figures = module("figures")
    with pytest.raises(ValueError, match="1 values beside 2"):
        figures.ratios([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="nothing was measured"):
        figures.spread([])


def test_a_slope_between_two_points():
    figures = module("figures")
    assert figures.slope((10_000, 70_000), (100_000, 88_000)) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="no slope"):
        figures.slope((1, 2), (1, 3))


def test_bytes_a_trap_from_kilobytes():
    races = module("races")
    assert races.Memory("x", (1000, 2000), (500, 600)).bytes_a_trap == pytest.approx(102.4)


# --- answers ------------------------------------------------------------------


def test_an_answer_is_found_in_what_a_debugger_prints():
    answers = module("answers")
    said = answers.line(seconds=1.5, counts={"2": 3})
    printed = f"Reading symbols...\nno newline at the end{said}[Inferior 1 killed]\n"
    assert answers.found(printed) == {"seconds": 1.5, "counts": {"2": 3}}
    assert answers.found("Traceback (most recent call last):\n") is None
    assert answers.found(answers.line(a=1) + answers.line(a=2)) == {"a": 2}


def test_the_kernel_counts_of_this_process_are_read():
    answers = module("answers")
    assert answers.stops(module("os").getpid()) >= 0
    assert answers.resident() > 1000
    with pytest.raises(LookupError, match="has no Nothing"):
        answers._status("self", "Nothing:")


def test_the_processor_is_named():
    machine = module("machine")
    assert (
        machine._model("processor\t: 0\nmodel name\t: An Own (R) CPU: 3\n") == "An Own (R) CPU: 3"
    )
    here = machine.machine("13.1", "3.11.2", None, 1)
    assert "pinned to CPU 1; Linux " in here.text()
    assert "gdb 13.1 with Python 3.11.2; load average" in here.text()


# --- a bench that measured something else fails -------------------------------

GOOD = {
    "seconds": 0.5,
    "cpu": 0.4,
    "stops": 102,
    "written": 100,
    "software": [],
    "counts": {"2": 100},
    "kwatch": {"a": 100},
}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"written": 99}, "a is 99 at the end, not 100"),
        ({"stops": 99}, "stopped 99 times, not 100"),
        ({"software": [2]}, "software watchpoint"),
        ({"kwatch": {"a": 98}}, "counted 98 hits of 100"),
        ({"kwatch": {}}, "counted None hits of 100"),
        ({"kwatch": None}, "kwatch is not loaded"),
    ],
)
def test_wrong_counts_are_errors(wrong, words):
    contestants = module("contestants")
    who = contestants.Contestant("kwatch", None, lambda n: GOOD, True, ("kwatch", "a"))
    assert who.measure(100) == contestants.Cost(5000.0, 4000.0)
    with pytest.raises(contestants.WrongCount, match=words):
        contestants.check(who, {**GOOD, **wrong}, 100)


def test_gdb_alone_is_alone():
    contestants = module("contestants")
    who = contestants.Contestant("gdb", None, lambda n: GOOD)
    with pytest.raises(contestants.WrongCount, match="kwatch is loaded"):
        who.measure(100)


def test_a_slow_one_gets_a_share_of_the_hits_and_its_cost_is_a_hits():
    contestants = module("contestants")
    asked = []

    def run(hits):
        asked.append(hits)
        return {"seconds": hits * 2e-3, "stops": hits, "written": hits}

    who = contestants.Contestant("slow", None, run, share=0.05)
    assert who.measure(1000).clock == pytest.approx(2e3)
    assert who.measure(20).clock == pytest.approx(2e3)
    assert asked == [50, 10]


# --- rounds -------------------------------------------------------------------


def test_rounds_are_interleaved_and_each_is_compared_with_its_own():
    contestants, races = module("contestants"), module("races")
    order = []
    seconds = {"a": iter([1.0, 2.0, 4.0]), "b": iter([1.5, 3.0, 6.0])}

    def entry(name, base):
        def run(hits):
            order.append(name)
            return {"seconds": next(seconds[name]), "stops": hits, "written": hits}

        return contestants.Contestant(name, base, run)

    rows = races.race([entry("a", None), entry("b", "a")], 100, 3, lambda text: None)
    assert order == ["a", "b"] * 3
    assert [row.ratio and row.ratio.text() for row in rows] == [None, "1.50 [1.50..1.50]"]
    assert rows[0].cost.median == pytest.approx(20_000)
    assert rows[0].cpu is None


# --- what is shown ------------------------------------------------------------


def results(**more):
    figures, races, report = module("figures"), module("races"), module("report")
    machine = module("machine").machine("13.1", "3.11.2", None, None)

    def row(name, base, costs, ratio=None):
        cpu = figures.spread([min(costs) / 2])
        return races.Row(name, base, figures.spread(costs), cpu, ratio and figures.spread([ratio]))

    return report.Results(
        machine,
        1000,
        2,
        traps=[
            row("gdb watch", None, [50.0, 60.0]),
            row("kwatch", "gdb watch", [80.0, 66.0], 1.35),
        ],
        idle=[
            row("step", None, [170.0]),
            row("step, with kwatch", "step", [175.0], 1.03),
        ],
        load=races.Load(*(figures.spread([value]) for value in (48.0, 83.0, 35.0))),
        memory=[
            races.Memory("gdb watch", (10, 20), (1000, 1000)),
            races.Memory("kwatch", (10, 20), (1000, 1001)),
        ],
        **more,
    )


def test_aims_are_told_and_the_missed_ones_stand_out():
    aims = {aim.what: aim for aim in module("report").aims(results())}
    assert not aims["kwatch, of gdb watch"].met
    assert aims["kwatch, of gdb watch"].text().endswith("1.35, aim 1.3: MISSED")
    assert aims["load"].text() == "load: 35.00 ms, aim 50 ms: met"
    assert aims["no watchpoint set, step"].met
    assert not aims["growth once the history is full"].met


def test_the_text_has_n_rounds_and_every_ratio():
    text = module("report").text(results(notes=["no LLDB"]))
    assert "n = 1000, rounds = 2" in text
    assert "55.0 [50.0..60.0]" in text
    assert "1.35 [1.35..1.35]" in text
    assert " 33.0 " in text
    assert "170.0 [170.0..170.0]" in text
    assert "no LLDB" in text


def test_the_json_says_the_same_and_parts_not_asked_for_are_empty():
    report = module("report")
    said = report.as_json(results())
    assert said["traps"][1]["ratio"]["median"] == 1.35
    assert said["traps"][1]["cpu_us"]["median"] == 33.0
    assert said["load"]["added_ms"]["median"] == 35.0
    assert said["memory"][1]["bytes_a_trap"] == 102.4
    assert [aim["met"] for aim in said["aims"]] == [False, True, True, False]
    none = report.Results(said["machine"] and results().machine, 1, 1)
    assert report.as_json(none)["load"] is None
    assert "Aims" not in report.text(none)


def test_a_plain_table_is_aligned():
    plain = module("report").table(["", "us"], [["kwatch", "9.5"], ["gdb", "10.0"]], plain=True)
    assert plain.splitlines() == ["          us", "------  ----", "kwatch   9.5", "gdb     10.0"]


# --- the command line ---------------------------------------------------------


def test_options():
    run = module("run")
    options = run.parse([])
    assert (options.n, options.rounds, options.parts, options.marks) == (20_000, 5, [], run.MARKS)
    options = run.parse(["-n", "300", "-rounds", "2", "-json", "-", "traps", "load"])
    assert (options.n, options.rounds, options.json) == (300, 2, "-")
    assert options.parts == ["traps", "load"]
    assert run.parse(["-quick"]).n < 1000
    assert run.parse(["-quick", "-n", "50"]).n == 50


@pytest.mark.parametrize("words", [["-n", "0"], ["-pin", "99999"], ["speed"], ["-rounds", "x"]])
def test_wrong_options_are_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        module("run").parse(words)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err
