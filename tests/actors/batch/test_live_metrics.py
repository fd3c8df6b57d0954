"""Live metrics: what a node exports while a run goes on, and a dashboard that asks for exactly that."""

import json
import re
import threading
import time
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from actors.batch.live_metrics import CELL_COUNTERS, ROLE_COUNTERS
from tests.actors.batch.test_run import run

NUM_ROWS = 64
DASHBOARD = Path(__file__).parents[3] / "grafana/stars_dashboard.json"
GAUGES = {"ray_stars_model_actors", "ray_stars_slot_occupancy"}
COUNTERS = {f"ray_{name}_total" for name, _ in [*CELL_COUNTERS.values(), *ROLE_COUNTERS.values()]}


def panels():
    return json.loads(DASHBOARD.read_text())["panels"]


def asked_for():
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    return {name for expression in expressions for name in re.findall(r"ray_stars_\w+", expression)}


def test_the_dashboard_has_what_grafana_needs_and_asks_for_every_metric():
    board = json.loads(DASHBOARD.read_text())
    assert board["uid"] and board["title"] and board["schemaVersion"] >= 27
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    assert len({panel["id"] for panel in panels()}) == len(panels()) >= 8
    for panel in panels():
        assert panel["datasource"] == "${datasource}" and panel["title"] and panel["description"]
        assert {"h", "w", "x", "y"} == panel["gridPos"].keys()
        for target in panel["targets"]:
            assert target["refId"] and target["legendFormat"]
            assert target["expr"].count("(") == target["expr"].count(")")
    assert asked_for() == GAUGES | COUNTERS


def exported():
    """Names and label sets of our metrics on this node, now."""
    (node,) = (node for node in ray.nodes() if node["Alive"])
    with urllib.request.urlopen(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return [(line.partition("{")[0], line) for line in lines if line.startswith("ray_stars_")]


@pytest.mark.ray
def test_a_run_exports_what_the_dashboard_asks_for_by_cell_and_role(ray_cluster, tmp_path):
    prompts = [None if i % 9 == 0 else f"prompt {i}" for i in range(NUM_ROWS)]
    pq.write_table(pa.table({"id": range(NUM_ROWS), "prompt": prompts}), tmp_path / "in.parquet")
    slow = {"backend": "fake", "fake_call_ms": 250}
    seen, is_over = {}, threading.Event()

    def watch():
        while not is_over.is_set():
            seen.update({line.rpartition(" ")[0]: name for name, line in exported()})
            time.sleep(0.5)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        run(str(tmp_path / "in.parquet"), tmp_path / "out", policy=slow, engine={"slots": 4}, cluster={"cells": 2})
    finally:
        is_over.set()
        watching.join()
    assert asked_for() <= set(seen.values())
    for cell in ("0", "1"):
        for role in ("policy", "reward"):
            calls = [s for s, name in seen.items() if name == "ray_stars_model_calls_total"]
            assert any(f'cell="{cell}"' in series and f'role="{role}"' in series for series in calls)
