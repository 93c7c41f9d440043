"""The results of the benchmark from given figures: turns, ratios, the table, the picture."""

from __future__ import annotations

import re
from itertools import pairwise
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from bench.cases import Case, Row
from bench.markdown import markdown
from bench.modes import MODES
from bench.picture import picture
from bench.stage import LoadFailed
from bench.table import LEGEND, table
from bench.turns import Cell, Results, run

MODE, OTHER = MODES["ws-ws"], MODES["wss-wss"]
RATE = Row("rate", "messages", "/s", goals={"ws-ws": 0.8}, capacity=True)
TIME = Row("time", "round trip", "ms", more=False, scale=1e-3, goals={"ws-ws": 1.5})


def results(rate=(), time=(), peers=("esxiproxy", "nginx", "nginx-64k", "haproxy")):
    """Return results of one mode, with these peers' cells in one row or the other."""
    made = Results([MODE], [RATE, TIME], list(peers))
    for row, cells in ((RATE, rate), (TIME, time)):
        for peer, cell in dict(cells).items():
            made.cells[MODE.name, row.name, peer] = cell if isinstance(cell, Cell) else Cell([cell])
    return made


def line(made, start):
    """Return the columns of the table's line with this beginning, by the names in its head."""
    lines = table(made).splitlines()
    head = next(line for line in lines if line.startswith(MODE.title))
    found = next(line for line in lines if line.startswith(start))
    columns = list(re.finditer(r"\S+(?: \S+)*", head))
    return {
        column.group(): found[before.end() : column.end()].rpartition("  ")[2].strip()
        for before, column in pairwise(columns)
    }


class Turns:
    """Peers, and cases that say in which order they were asked."""

    def __init__(self, *names, without_a_process=()):
        self.asked = []
        pids = {name: [] if name in without_a_process else [1] for name in names}
        self.peers = [SimpleNamespace(name=name, pids=lambda name=name: pids[name]) for name in names]

    def case(self, name, figures, once=False):
        def measure(_stage, mode, peers):
            for peer in peers:
                self.asked.append((mode.name, name, peer.name))
                yield peer, figures(peer.name)

        return Case(name, (RATE, TIME), measure, once)


class TestTurns:
    def test_every_peer_has_its_turn_before_the_next_one_begins(self):
        stage = Turns("a", "b")
        made = run(stage, [MODE], [stage.case("case", lambda name: {"rate": 5.0})], 2)
        assert stage.asked == [("ws-ws", "case", name) for name in ("a", "b", "a", "b")]
        assert made.cell(MODE, RATE, "a") == Cell([5.0, 5.0])
        assert made.cell(MODE, TIME, "a") is None
        assert made.failures == []

    def test_modes_come_one_after_the_other(self):
        stage = Turns("a")
        run(stage, [MODE, OTHER], [stage.case(name, lambda _: {}) for name in ("x", "y")], 1)
        assert [(mode, case) for mode, case, _ in stage.asked] == [
            *(("ws-ws", "x"), ("ws-ws", "y")),
            *(("wss-wss", "x"), ("wss-wss", "y")),
        ]

    def test_a_case_with_once_runs_once_for_each_peer(self):
        stage = Turns("a", "b")
        run(stage, [MODE], [stage.case("case", lambda name: {}, once=True)], 3)
        assert [peer for _, _, peer in stage.asked] == ["a", "b"]

    def test_no_proxy_at_all_has_one_turn(self):
        stage = Turns("direct", "a", without_a_process=["direct"])
        run(stage, [MODE], [stage.case("case", lambda name: {})], 3)
        assert [peer for _, _, peer in stage.asked] == ["direct", "a", "a", "a"]

    def test_a_peer_that_fails_is_named_and_the_others_go_on(self):
        def figures(name):
            if name == "a":
                raise LoadFailed("case ws-ws a: it broke")
            return {"rate": 1.0}

        stage = Turns("a", "b")
        made = run(stage, [MODE], [stage.case("case", figures)], 2)
        assert made.failures == ["case ws-ws a: it broke"] * 2
        assert made.cell(MODE, RATE, "a") is None
        assert made.cell(MODE, RATE, "b") == Cell([1.0, 1.0])

    def test_cpu_is_kept_beside_the_figure(self):
        stage = Turns("a")
        figures = {"rate": 10.0, "cpu": 0.5, "wanted": 0.6, "load": 0.4}
        made = run(stage, [MODE], [stage.case("case", lambda name: figures)], 1)
        cell = made.cell(MODE, RATE, "a")
        assert cell == Cell([10.0], [0.5], [0.6], [0.4])
        assert cell.per_cpu == 20.0


class TestFigures:
    def test_a_cells_figure_is_the_median_of_its_turns(self):
        assert Cell([9.0, 1.0, 2.0]).median == 2.0

    def test_per_cpu_needs_the_cpu_of_every_turn(self):
        assert Cell([10.0, 30.0], [0.5, 1.0]).per_cpu == 25.0
        assert Cell([10.0, 30.0], [0.5]).per_cpu is None
        assert Cell([10.0], [0.001]).per_cpu is None
        assert Cell([10.0]).per_cpu is None

    def test_the_reference_is_nginxs_best_setting(self):
        made = results(rate={"nginx": 10.0, "nginx-64k": 20.0}, time={"nginx": 3.0, "nginx-64k": 4.0})
        assert made.reference(MODE, RATE) == 20.0
        assert made.reference(MODE, TIME) == 3.0
        assert made.reference(OTHER, RATE) is None

    def test_a_ratio_is_to_the_reference(self):
        made = results(rate={"nginx": 10.0, "esxiproxy": 5.0})
        assert made.ratio(MODE, RATE, "esxiproxy") == 0.5
        assert made.ratio(MODE, RATE, "haproxy") is None
        assert results(rate={"esxiproxy": 5.0}).ratio(MODE, RATE, "esxiproxy") is None

    def test_a_ratio_per_cpu_is_to_nginxs_own_per_cpu(self):
        made = results(rate={"nginx": Cell([10.0], [1.0], [1.0]), "esxiproxy": Cell([10.0], [0.5], [0.5])})
        assert made.ratio(MODE, RATE, "esxiproxy", per_cpu=True) == 2.0

    def test_plain_cells_are_in_their_rows_unit(self):
        made = results(time={"nginx": Cell([0.002, 0.004]), "esxiproxy": Cell([0.006])})
        first, second = made.plain()
        assert first == {
            **{"mode": "ws-ws", "row": "time", "peer": "nginx", "unit": "ms"},
            **{
                "median": pytest.approx(3.0),
                "ratio": 1.0,
                "values": [2.0, 4.0],
                "cpu": [],
                "wanted": [],
                "load": [],
            },
        }
        assert second["ratio"] == pytest.approx(2.0)


class TestTable:
    def test_a_line_has_figure_ratios_and_goal(self):
        made = results(time={"nginx": 0.002, "nginx-64k": 0.004, "esxiproxy": 0.0025, "haproxy": 0.001})
        assert line(made, "round trip <") == {
            **{"nginx's best": "2 ms", "esxiproxy": "1.25", "goal": "≤ 1.5", "per CPU": "", "limit": ""},
            **{"nginx": "1.00", "nginx-64k": "2.00", "haproxy": "0.50"},
        }

    def test_a_missed_goal_is_marked(self):
        assert line(results(rate={"nginx": 10.0, "esxiproxy": 7.9}), "messages")["esxiproxy"] == "!0.79"
        assert line(results(rate={"nginx": 10.0, "esxiproxy": 8.0}), "messages")["esxiproxy"] == "0.80"
        assert line(results(time={"nginx": 1.0, "esxiproxy": 1.6}), "round trip")["esxiproxy"] == "!1.60"

    def test_only_our_goals_are_ours(self):
        assert line(results(rate={"nginx": 10.0, "haproxy": 1.0}), "messages")["haproxy"] == "0.10"

    def test_a_proxy_that_waited_for_the_load_is_marked(self):
        cells = {"nginx": Cell([10.0], [1.0], [1.0]), "esxiproxy": Cell([9.0], [0.45], [0.5])}
        columns = line(results(rate=cells), "messages")
        assert columns["esxiproxy"] == "~0.90"
        assert columns["nginx"] == "1.00"
        assert columns["per CPU"] == "2.00"

    def test_a_row_that_load_and_upstream_limit_is_marked(self):
        peers = ("direct", "esxiproxy", "nginx", "nginx-64k")
        made = results(
            rate={"direct": 39.0, "nginx": 10.0, "nginx-64k": 20.0, "esxiproxy": 10.0},
            time={"direct": 1.0, "nginx": 2.0, "nginx-64k": 3.0},
            peers=peers,
        )
        assert line(made, "messages")["limit"] == "*1.95"
        assert line(made, "round trip")["limit"] == "2.00"
        assert "direct" not in table(made).splitlines()[0]
        made.cells[MODE.name, "rate", "direct"] = Cell([40.0])
        assert line(made, "messages")["limit"] == "2.00"

    def test_a_limit_may_be_known_by_the_share_of_the_loads_core(self):
        cells = {
            "direct": Cell([10.0]),
            "nginx": Cell([10.0], load=[0.2]),
            "nginx-64k": Cell([20.0, 20.0, 90.0], load=[0.5, 0.8, 0.8]),
        }
        made = results(rate=cells, time={"nginx": Cell([1.0], load=[0.1])}, peers=tuple(cells))
        assert made.limit(MODE, RATE) == 2.5
        assert made.limit(MODE, TIME) is None
        made.cells[MODE.name, "rate", "direct"] = Cell([60.0])
        assert made.limit(MODE, RATE) == 3.0
        assert Cell([10.0], load=[0.0]).possible == 1000.0

    def test_a_row_without_nginx_or_without_a_measured_load_has_no_limit(self):
        made = results(rate={"nginx": 10.0}, time={"direct": 1.0}, peers=("direct", "nginx"))
        assert line(made, "messages")["limit"] == ""
        assert line(made, "round trip")["limit"] == ""

    def test_a_row_without_a_figure_of_nginx_stands_alone(self):
        columns = line(results(rate={"esxiproxy": 1234.0}), "messages")
        assert (columns["nginx's best"], columns["esxiproxy"], columns["nginx"]) == ("-", "(1,234)", "-")

    def test_a_row_without_a_measurement_is_left_out(self):
        text = table(results(rate={"nginx": 10.0}))
        assert "messages" in text and "round trip" not in text
        assert text.endswith(LEGEND)

    def test_another_checkout_stands_beside_this_one_without_its_folders(self):
        peers = ("esxiproxy", "esxiproxy=/some/where/old", "nginx")
        made = results(rate=dict.fromkeys(peers, 10.0), peers=peers)
        head = table(made).splitlines()[0].split()
        assert "esxiproxy=old" in head
        assert "/some" not in table(made)


class TestMarkdown:
    def test_a_row_has_a_ratio_for_each_proxy_and_the_marks(self):
        peers = ("direct", "esxiproxy", "nginx", "haproxy", "websockify")
        rate = {"direct": 15.0, "esxiproxy": 7.9, "nginx": 10.0, "haproxy": 9.0}
        time = {"direct": 0.001, "esxiproxy": 0.003, "nginx": 0.002, "websockify": 0.004}
        assert markdown(results(rate, time, peers)).splitlines() == [
            "| | ws → ws |",
            "|---|---|",
            r"| messages | !**0.79** · 0.90 · – \* |",
            "| round trip `<` | **1.50** · – · 2.00 |",
        ]

    def test_a_row_without_nginx_has_figures_and_one_without_any_is_left_out(self):
        made = results(rate={"esxiproxy": 41.0, "haproxy": 50.0}, time={"nginx": 1.0})
        assert markdown(made).splitlines()[2:] == ["| messages | (41 /s) · (50 /s) |"]

    def test_a_mode_without_a_measurement_has_a_dash(self):
        made = results(rate={"esxiproxy": 10.0, "nginx": 10.0})
        made.modes = [MODE, OTHER]
        assert markdown(made).splitlines()[2] == "| messages | **1.00** · – | – |"


class TestPicture:
    def bars(self, made):
        """Return the width of each bar by its number, and check that the SVG is well-formed."""
        root = ElementTree.fromstring(picture(made, {"cpu": "a <fast> one", "commit": "abc"}))
        parts = list(root)
        return {
            float(text.text): float(bar.get("width"))
            for bar, text in pairwise(parts)
            if bar.tag.endswith("rect") and bar.get("x") == "250" and bar.get("height") == "9"
        }

    def test_longer_is_better_in_every_row(self):
        bars = self.bars(results(rate={"nginx": 10.0, "esxiproxy": 5.0}, time={"nginx": 1.0, "haproxy": 4.0}))
        assert sorted(bars) == [0.25, 0.5, 1.0]
        assert bars[0.25] < bars[0.5] < bars[1.0]

    def test_a_bar_stays_in_the_picture(self):
        bars = self.bars(results(rate={"nginx": 1.0, "esxiproxy": 0.001, "haproxy": 1000.0}))
        assert bars[0.0] == 0.0
        assert bars[1000.0] <= 900 - 250

    def test_no_proxy_at_all_and_rows_without_nginx_have_no_bar(self):
        peers = ("direct", "esxiproxy", "nginx")
        made = results(rate={"direct": 99.0, "nginx": 10.0}, time={"esxiproxy": 1.0}, peers=peers)
        assert list(self.bars(made)) == [1.0]

    def test_the_machine_is_named(self):
        text = picture(results(rate={"nginx": 1.0}), {"cpu": "a <fast> one", "commit": "abc"})
        assert "a &lt;fast&gt; one, abc" in text
