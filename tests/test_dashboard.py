"""The Grafana dashboard: Grafana's schema knows its words, and it asks for what there is."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import TIMEOUT, ignore

from tsignals import Signal, WorkerPool

pytestmark = pytest.mark.once

DASHBOARD = Path(__file__).parent.parent / "docs" / "grafana" / "tsignals.json"
LOADED: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
PANELS = [panel for panel in LOADED["panels"] if panel["type"] != "row"]
QUERIES = [
    (panel["title"], target["expr"], target["legendFormat"])
    for panel in PANELS
    for target in panel["targets"]
]


def shown(query: str) -> str:
    """A query as Grafana sends it."""
    for name, value in (
        ("$__rate_interval", "1m"),
        ("$__range", "3h"),
        ("$signal", "order_paid|order_sent"),
    ):
        query = query.replace(name, value)
    return query


# -- Grafana's schema --


def missing(ours: Any, known: Any, path: str = "") -> Iterator[str]:
    """Where ``known`` has not what we have."""
    if isinstance(ours, dict) and isinstance(known, dict):
        for key, value in ours.items():
            if key not in known:
                yield f"{path}.{key}"
            else:
                yield from missing(value, known[key], f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(known, list) and len(ours) == len(known):
        for n, (value, other) in enumerate(zip(ours, known, strict=True)):
            yield from missing(value, other, f"{path}[{n}]")
    elif ours != known:
        yield f"{path}: {ours!r}, not {known!r}"


def as_grafana_reads_it(dashboard: dict[str, Any]) -> Any:
    """What is left of a dashboard once Grafana's own model has read it."""
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk is not installed")
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    plugins.register_default_plugins()
    return json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))


def test_grafanas_schema_knows_every_word_of_it() -> None:
    assert list(missing(LOADED, as_grafana_reads_it(LOADED))) == []


@pytest.mark.parametrize("word", ["titel", "descriptoin"])
def test_a_word_that_is_not_in_the_schema_would_be_found(word: str) -> None:
    panels = [{**LOADED["panels"][0], word: "x"}]
    changed = {**LOADED, "panels": panels, word: "x"}
    assert list(missing(changed, as_grafana_reads_it(changed))) == [
        f".panels[0].{word}",
        f".{word}",
    ]


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    taken = set()
    for panel in LOADED["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in LOADED["panels"]]
    assert len(set(numbers)) == len(numbers)


# -- What it asks for --


def exported() -> dict[str, set[str]]:
    """The names of all samples that are exported, with their labels."""
    client = pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
    from tsignals.prometheus import instrument

    registry = client.CollectorRegistry()
    with instrument(registry), WorkerPool(1) as pool:
        signal = Signal(name="order_paid", executor=pool)
        signal.connect(ignore)
        signal.send_async(None).wait(TIMEOUT)
        families = list(registry.collect())
    found: dict[str, set[str]] = {}
    for family in families:
        if family.type == "gauge":
            found[family.name] = {"pool"}  # whether or not there is a pool now
        for sample in family.samples:
            found[sample.name] = set(sample.labels)
    return found


@pytest.mark.parametrize(("title", "query", "legend"), QUERIES, ids=lambda value: value[:30])
def test_query_asks_for_metrics_and_labels_that_are_exported(
    title: str, query: str, legend: str
) -> None:
    have = exported()
    names = set(re.findall(r"\btsignals_\w+", query))
    assert names
    assert names <= set(have)
    labels = set().union(*[have[name] for name in names])
    asked = set(re.findall(r"(\w+)\s*=~?\s*\"", query))
    asked |= {w for of in re.findall(r"by \(([^)]*)\)", query) for w in re.findall(r"\w+", of)}
    assert asked <= labels
    kept = {w for of in re.findall(r"by \(([^)]*)\)", query) for w in re.findall(r"\w+", of)}
    assert set(re.findall(r"{{(\w+)}}", legend)) <= kept  # else the legend is empty
    outcomes = {each for of in re.findall(r'outcome=~?"([^"]*)"', query) for each in of.split("|")}
    assert outcomes <= {"completed", "failed", "cancelled", "dropped", "lost", "refused"}


def test_every_metric_is_shown() -> None:
    asked = {name for _, query, _ in QUERIES for name in re.findall(r"\btsignals_\w+", query)}
    have = {name for name in exported() if not name.endswith("_created")}
    assert have == asked


@pytest.mark.parametrize("query", [query for _, query, _ in QUERIES])
def test_query_is_promql(query: str) -> None:
    parser = pytest.importorskip("promql_parser", reason="promql-parser is not installed")
    parser.parse(shown(query))


def test_variables_are_those_that_queries_use() -> None:
    names = {variable["name"] for variable in LOADED["templating"]["list"]}
    used = set(re.findall(r"\$\{?(?!__)(\w+)", DASHBOARD.read_text("utf-8")))
    assert used == names == {"datasource", "signal"}
    [signals] = [v["query"] for v in LOADED["templating"]["list"] if v["name"] == "signal"]
    name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", signals).groups()  # type: ignore[union-attr]
    assert label in exported()[name]
