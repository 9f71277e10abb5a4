"""The benchmark runs, tells every bar and reckons right. How fast anything is, is not tested."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest

from stress.bench import command, libraries
from stress.bench.bars import rows
from stress.bench.measure import Group, Scale, Subject, measure
from stress.bench.report import Record, bars_table

pytestmark = [pytest.mark.unmeasured, pytest.mark.once]

TINY = Scale(
    rounds=1,
    sample_ms=0.05,
    slow_peers=False,
    deliveries=400,
    receivers=100,
    shots=10,
    burst=100,
)


def bench(*arguments: str, scale: Scale = TINY) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(["--quick", *arguments]), scale)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JSON of a run of all groups."""
    path = tmp_path_factory.mktemp("bench") / "run.json"
    assert bench("--json", str(path)) == 0
    return path


def verdict(record: Record, row: str, case: str) -> str:
    """What the table of bars says about one of them."""
    lines = list(bars_table(record, rows(record.old)))
    after = lines[lines.index(row) + 1 :]
    return next(line for line in after if line.startswith(f"    {case} "))


def sent(time: float, python: str = "3.13.0", gil: bool = True) -> Record:
    """A run in which a send to one weak function took so long, and the bare loop took 100."""
    samples = {"weak functions, 1/tsignals": [time], "weak functions, 1/floor": [100.0]}
    return Record({"python": python, "gil": gil}, [samples])


def test_every_row_of_the_bars_is_printed_with_a_verdict(
    everything: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("--from", str(everything)) == 0
    table = capsys.readouterr().out.splitlines()
    record = Record.read(everything)
    for row in rows(record.old):
        start = table.index(row.what) + 1
        measured = row.build in ("any", record.build)
        for line, cell in zip(table[start:], row.cells, strict=False):
            assert line.startswith(f"    {cell.label} ")
            assert ("ok" in line or "short by" in line) if measured else "needs a" in line


def test_every_group_measures_tsignals(everything: Path) -> None:
    (samples,) = json.loads(everything.read_text())["runs"]
    groups = {name.split("/")[0] for name in samples}
    assert {name.split("/")[0] for name in samples if "/tsignals" in name} == groups
    assert all(min(figures) > 0 for figures in samples.values())


def test_rows_measures_only_what_the_chosen_rows_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    bench("--rows", "sender filter", "--json", str(path))
    content = json.loads(path.read_text())
    (samples,) = content["runs"]
    groups = {name.split("/")[0] for name in samples}
    assert groups == {"sender hit, 1", "sender hit, 10", "sender hit, 100"}
    assert {bar["row"] for bar in content["bars"]} == {"sender filter hit"}


def test_json_without_a_file_is_all_there_is_on_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench("--rows", "nobody connected", "--json")
    content = json.loads(capsys.readouterr().out)
    assert "nobody connected/tsignals" in content["runs"][0]


def test_every_candidate_is_measured_once_a_round(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    bench("--rows", "weak functions, 1", "--json", str(path), scale=replace(TINY, rounds=3))
    (samples,) = json.loads(path.read_text())["runs"]
    assert {len(figures) for figures in samples.values()} == {3}


def test_a_bar_is_kept_up_to_its_limit_and_missed_beyond_it() -> None:
    row = "weak functions against the floor"
    assert verdict(sent(175.0), row, "1").endswith("ok")
    assert verdict(sent(192.5), row, "1").endswith("short by 10.0 %")


def test_the_bars_for_3_11_differ() -> None:
    row = "weak functions against the floor"
    assert verdict(sent(192.5, python="3.11.7"), row, "1").endswith("ok")


def test_what_was_not_measured_or_cannot_be_says_so() -> None:
    assert verdict(sent(1.0), "weak bound methods", "1").endswith("not measured")
    scaling = "two threads against one, throughput, 3 us of private work"
    assert verdict(sent(1.0), scaling, "1").endswith("needs a free-threaded build")
    four = "four threads sending against one, per send"
    assert verdict(sent(1.0, gil=False), four, "1").endswith("needs a GIL build")


def test_several_runs_count_by_their_medians() -> None:
    merged = Record.merged([sent(100.0), sent(900.0), sent(150.0)])
    assert len(merged.runs) == 3
    line = verdict(merged, "weak functions against the floor", "1")
    assert line.endswith("ok")
    assert " 1.5 " in line
    assert "1 .. 9" in line


def test_a_ratio_is_taken_within_a_round_also_of_several_runs() -> None:
    """The machine was slow for half of the time; in most rounds that befell both or neither."""
    fast_and_slow = [100.0, 100.0, 200.0], [100.0, 200.0, 200.0]
    names = "weak functions, 1/tsignals", "weak functions, 1/floor"
    one = Record({"python": "3.13.0", "gil": True}, [dict(zip(names, fast_and_slow, strict=True))])
    merged = Record.merged([one, one])
    assert merged.ratios(names[:1], names[1:]) == [1.0, 1.0]


def test_candidates_of_a_group_are_measured_next_to_each_other() -> None:
    measured: list[str] = []

    def group(name: str) -> Group:
        def case() -> dict[str, float]:
            measured.append(name)
            return {"it": 1.0}

        return Group(name, lambda _stack: [case, case, case])

    measure(Subject("some", [group(name) for name in "abcd"]), TINY, lambda _name: True)
    assert sorted(measured[::3]) == ["a", "b", "c", "d"]
    assert measured == [name for name in measured[::3] for _ in range(3)]


def test_a_peer_that_is_not_installed_is_skipped_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(libraries.Blinker, "package", "no-such-distribution")
    libraries.installed.cache_clear()
    try:
        bench("--rows", "connect", "--rows", "nobody connected")
    finally:
        libraries.installed.cache_clear()
    printed = capsys.readouterr().out
    assert "no-such-distribution is not installed: skipped" in printed
    assert "    blinker " not in printed
    assert "not measured" in printed
