#!/usr/bin/python3
"""Replays a week of bike trips on three nodes, without and with moves.

README.md tells what is shown and how it was chosen.
"""
import argparse
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time

import psycopg2

from cluster import CLIENT_ROLE, Cluster
from monitor import Monitor, summary
from trace import Trace
from view import View
from workload import Workload

HERE = os.path.dirname(os.path.abspath(__file__))
TRACE = os.path.join(HERE, "bayarea14.bin")
START = "2014-09-14T20"     # a Sunday, ten weeks into the trace
PATIENCE = 60               # seconds that the clients may be behind
CLIENTS = 16                # of each node


class Failed(Exception):
    pass


def on_signal(number, frame):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


class Run:
    """One replay: its own nodes, from the same state as every other."""

    def __init__(self, title, mode, workload, options, view):
        self.title = title
        self.mode = mode
        self.workload = workload
        self.options = options
        self.view = view
        self.cluster = Cluster(workload)
        self.result = {"title": title}
        self.ticks = []         # what the clients said, twice a second

    def go(self):
        try:
            self._prepare()
            self._replay()
            self.cluster.end_moves()
            # Before the check, which reads through every node.
            self._summarise()
            self._check()
        finally:
            self.cluster.stop()
        return self.result

    def _prepare(self):
        c, w = self.cluster, self.workload
        self.view.say("%s: starting %d nodes and distributing %d stations"
                      % (self.title, len(w.nodes), len(w.keys)))
        c.start()
        c.join()
        c.make_table()
        c.stage_history()
        self.schedule = os.path.join(c.dir, "schedule")
        self.acks = os.path.join(c.dir, "acks")
        w.write_schedule(self.schedule)

    def _replay(self):
        c, w = self.cluster, self.workload
        # Steps of history start at multiples of their length.
        start = math.ceil((time.time() + 2.5) / w.speed) * w.speed
        self.view.say("%s: the superuser loads %d weeks of history, as from "
                      "logs; %d trips follow" % (self.title, round(w.first / 168),
                                                 len(w.trips)))
        self.start = start
        log = open(os.path.join(c.dir, "replay.log"), "w+")
        self.client = subprocess.Popen(
            [self.options.replay, self.schedule, self.acks, str(CLIENTS),
             "%r+%r" % (start, w.warm_up * w.speed)] + [c.conninfo(i, CLIENT_ROLE)
                             for i in range(len(w.nodes))],
            stdout=subprocess.PIPE, stderr=log)
        try:
            c.load_history(start)
            c.configure(self.mode)
            self._watch(Monitor(c, w, start))
        finally:
            if self.client.poll() is None:
                self.client.terminate()
            self.client.wait()
        log.seek(0)
        self.result["client_log"] = log.read()
        if "final" not in self.result:
            raise Failed("the clients ended early:\n"
                         + self.result["client_log"])

    def _watch(self, monitor):
        w = self.workload
        stdout = self.client.stdout
        os.set_blocking(stdout.fileno(), False)
        waiting = selectors.DefaultSelector()
        waiting.register(stdout, selectors.EVENT_READ)
        pending = b""
        while True:
            waiting.select(1)
            chunk = stdout.read()
            if chunk == b"":
                return
            lines = (pending + (chunk or b"")).split(b"\n")
            pending = lines.pop()
            if not lines:
                continue
            self.ticks += [json.loads(line) for line in lines]
            tick = self.ticks[-1]
            if tick["final"]:
                self.result["final"] = tick
                continue
            if tick["seconds"] > w.hours * w.speed + PATIENCE:
                raise Failed("the clients are stuck: %d of %d trips done" % (
                    tick["trips"], tick["of"]))
            state = monitor.poll()
            state.update(
                title=self.title, nodes=tick["nodes"], all=tick["all"],
                clock=w.clock(tick["seconds"]),
                progress=tick["seconds"] / (w.hours * w.speed))
            self.view.draw(state)

    def _check(self):
        """Every acknowledged write is there, once, seen from every node."""
        c, r = self.cluster, self.result
        with open(self.acks) as f:
            expected = self.workload.expected(f.read().split())
        r["rows"] = [c.digest(i) for i in range(len(self.workload.nodes))]
        r["rows_right"] = []
        if expected is None:
            r["problem"] = "an operation's outcome is not known"
            return
        lines = "".join("%d\t%d\t%d\n" % (s, n, uses)
                        for (s, n), uses in sorted(expected.items()))
        for node, (count, digest, text) in enumerate(r["rows"]):
            r["rows_right"].append(text == lines)
            if text != lines:
                self._tell_difference(node, text, lines)
        r["rows"] = [(count, digest) for count, digest, _ in r["rows"]]
        r["expected_rows"] = len(expected)

    def _tell_difference(self, node, text, lines):
        seen, wanted = text.splitlines(), lines.splitlines()
        missing = sorted(set(wanted) - set(seen))
        extra = sorted(set(seen) - set(wanted))
        self.view.say("%s sees %d rows, expected %d; %d missing, %d not "
                      "expected, for example %s / %s" % (
                          self.workload.nodes[node][0], len(seen), len(wanted),
                          len(missing), len(extra), missing[:3], extra[:3]))

    def _summarise(self):
        self.result.update(summary(self.cluster, self.start,
                                   self.result["final"]["statements"]))
        if self.mode == "auto":
            html = self.cluster.value(
                0, "SELECT fragaffinity.report(to_timestamp(%s), "
                "clock_timestamp())", (self.start,))
            with open(self.options.report, "w") as f:
                f.write(html)


def row(name, values):
    return "%-38s" % name + "".join("%18s" % v for v in values)


def print_table(runs, workload, view):
    known, hindsight = workload.fixed_shares()
    lines = ["", row("", [r["title"] for r in runs]), "-" * 74]

    def add(name, value):
        lines.append(row(name, [value(r) for r in runs]))

    add("local share of accesses", lambda r: "%.1f %%" % (100 * r["share_all"]))
    for i, (name, _, _) in enumerate(workload.nodes):
        add("  " + name, lambda r: "%.1f %%" % (100 * r["share"][i]))
    for key, title in (("all", "statement"), ("response", "trip")):
        for at, p in ((1, "p50"), (2, "p95")):
            add("%s latency %s" % (title, p),
                lambda r: "%.1f ms" % r["final"][key][at])
    for i, (name, _, _) in enumerate(workload.nodes):
        add("  p50 / p95 at " + name, lambda r: "%.1f / %.1f ms" % tuple(
            r["final"]["nodes"][i][1:3]))
    add("statements on rows", lambda r: "{:,}".format(r["final"]["statements"]))
    add("  as the nodes counted them", lambda r: "{:,}".format(r["captured"]))
    add("moves made / failed", lambda r: "%d / %d" % (r["done"], r["failed"]))
    add("  predictive / reactive", lambda r: "%d / %d" % (
        r["predictive"], r["reactive"]))
    add("  bytes", lambda r: "{:,}".format(r["bytes"]))
    add("  pause of writers p50 / max", lambda r: r["pause"])
    add("prediction log loss", lambda r: r["log_loss"])
    add("  of long-run shares (static)", lambda r: r["log_loss_static"])
    add("retries after SQLSTATE 40001", lambda r: r["final"]["retries"])
    add("other errors", lambda r: r["final"]["errors"])
    for i, (name, _, _) in enumerate(workload.nodes):
        add("rows seen from " + name, lambda r: "%s %s" % (
            "{:,}".format(r["rows"][i][0]),
            "right" if r["rows_right"][i:i + 1] == [True] else "WRONG"))
    lines += ["", "Without any move the best fixed placement would have had "
              "%.1f %% local (chosen from" % (100 * known),
              "the weeks before), or %.1f %% (chosen in hindsight)." % (
                  100 * hindsight)]
    view.say("\n".join(lines))


def right(result):
    return (result["rows_right"] == [True] * len(result["rows"])
            and result["final"]["errors"] == 0
            and result["final"]["trips"] == result["final"]["of"])


def parse_options():
    parser = argparse.ArgumentParser(
        prog="test/demo/run", description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=int, default=134,
                        help="hours of the trace to replay")
    parser.add_argument("--speed", type=float, default=0.5,
                        help="seconds that an hour takes")
    parser.add_argument("--report", help="file for the HTML report")
    parser.add_argument("--only", choices=("off", "on"),
                        help="one of the two runs")
    options = parser.parse_args()
    if not options.report:
        options.report = os.path.join(
            tempfile.gettempdir(), "fragaffinity-report-%s-%d.html" % (
                time.strftime("%H%M%S"), os.getpid()))
    return options


def compile_clients(directory):
    program = os.path.join(directory, "replay")
    include = subprocess.run(
        [os.environ.get("PG_CONFIG", "pg_config"), "--includedir"],
        check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    subprocess.run(["cc", "-O2", "-I" + include, "-o", program,
                    os.path.join(HERE, "replay.c"), "-lpq"], check=True)
    return program


def main():
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    options = parse_options()
    view = View()
    workload = Workload(Trace(TRACE), START, options.hours, options.speed)
    runs = []
    try:
        with tempfile.TemporaryDirectory(prefix="fragaffinity-demo.") as d:
            options.replay = compile_clients(d)
            for key, title, mode in (("off", "moves off", "observe"),
                                     ("on", "moves on", "auto")):
                if options.only in (None, key):
                    runs.append(
                        Run(title, mode, workload, options, view).go())
    except KeyboardInterrupt:
        view.say("interrupted; everything has been cleaned up")
        return 130
    except (Failed, RuntimeError, psycopg2.Error) as e:
        view.say("demo: " + str(e))
        return 1
    finally:
        view.close()
    print_table(runs, workload, view)
    for r in runs:
        for line in r["client_log"].splitlines()[:10]:
            view.say("%s: %s" % (r["title"], line))
    if options.only != "off":
        view.say("Report of the run with moves: " + options.report)
    return 0 if all(right(r) for r in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
