"""What the view and the final table ask of the nodes."""
import collections
import time

WINDOW = 4              # hours that the view's shares cover


class Monitor:
    """The coordinator's catalog, twice a second; a few short queries."""

    def __init__(self, cluster, workload, start):
        self.cluster = cluster
        self.workload = workload
        self.start = start
        self.index = {}
        for number, name in cluster.sql(
                0, "SELECT node, name FROM fragaffinity.node"):
            self.index[number] = self.index[name] = [
                n[0] for n in workload.nodes].index(name)

    def poll(self):
        w, c = self.workload, self.cluster
        state = {"stations": w.keys, "labels": w.labels}
        state["owner"] = {
            c.station[f]: self.index[owner] for f, owner in c.sql(
                0, "SELECT fragment, owner FROM fragaffinity.fragment")}
        self._accesses(state)
        self._forecast(state)
        self._moves(state)
        self._quality(state)
        return state

    def _accesses(self, state):
        """Heat and shares of the latest steps that have been collected."""
        w = self.workload
        rows = self.cluster.sql(
            0, "SELECT node, fragment, sum(calls)::float, "
            "sum(remote_calls)::float FROM fragaffinity.history "
            "WHERE step >= to_timestamp(%s) AND step > "
            "(SELECT max(step) FROM fragaffinity.history) - "
            "make_interval(secs => %s) GROUP BY 1, 2",
            (self.start, WINDOW * w.speed))
        heat = collections.defaultdict(collections.Counter)
        calls, remote = collections.Counter(), collections.Counter()
        for number, fragment, n, r in rows:
            node = self.index[number]
            heat[self.cluster.station[fragment]][node] += n
            calls[node] += n
            remote[node] += r
        state["actual"] = {
            s: {n: cell[n] / sum(cell.values()) for n in range(len(w.nodes))}
            for s, cell in heat.items() if sum(cell.values())}
        state["share"] = [1 - remote[n] / calls[n] if calls[n] else None
                          for n in range(len(w.nodes))]
        total = sum(calls.values())
        state["share_all"] = 1 - sum(remote.values()) / total if total else None
        state["rate"] = [calls[n] / (WINDOW * w.speed)
                         for n in range(len(w.nodes))]

    def _forecast(self, state):
        state["predicted"] = collections.defaultdict(dict)
        for fragment, number, affinity in self.cluster.sql(
                0, "SELECT fragment, node, affinity FROM "
                "fragaffinity.prediction WHERE horizon = (SELECT min(horizon) "
                "FROM fragaffinity.prediction)"):
            station = self.cluster.station[fragment]
            state["predicted"][station][self.index[number]] = affinity

    def _name(self, fragment):
        key = self.cluster.station[fragment]
        return self.workload.labels[self.workload.keys.index(key)]

    def _moves(self, state):
        counts = dict(self.cluster.sql(
            0, "SELECT state, count(*) FROM fragaffinity.moves GROUP BY 1"))
        state["moves_done"] = counts.get("done", 0)
        state["moves_failed"] = counts.get("failed", 0)
        rows = self.cluster.sql(
            0, "SELECT fragment, source, destination, trigger, state, "
            "extract(epoch FROM clock_timestamp() - "
            "coalesce(started, clock_timestamp()))::float, "
            "coalesce(reason, ''), extract(epoch FROM finished - started)"
            "::float, pause_ms FROM fragaffinity.moves "
            "ORDER BY move DESC LIMIT 12")
        state["moving"], state["moved"] = [], []
        for f, src, dst, trigger, st, age, why, took, pause in rows:
            text = "%s %s → %s  " % (self._name(f), src, dst)
            if st in ("done", "failed", "cancelled"):
                if st == "done" and took is not None:
                    text += "%.2f s, writers paused %.0f ms  " % (
                        took, pause or 0)
                else:
                    text += st + "  "
                state["moved"].append(text + "%s: %s" % (trigger, why))
            else:
                state["moving"].append(text + "%s for %.1f s  %s: %s" % (
                    st, age, trigger, why))

    def _quality(self, state):
        loss = log_loss(self.cluster, self.start)
        state["quality"] = "" if not loss else (
            "log loss %.3f, static %.3f" % (
                loss.get("mixture", 0), loss.get("static", 0)))


def log_loss(cluster, start):
    """Mean over accesses of the shortest horizon, by model.

    Not the scores of the weeks that were loaded: they come at once.
    """
    return dict(cluster.sql(
        0, "SELECT model, sum(log_loss * accesses) / sum(accesses) "
        "FROM fragaffinity.prediction_score WHERE accesses > 0 "
        "AND scored_at > to_timestamp(%s) AND scored_at <> "
        "(SELECT scored_at FROM fragaffinity.prediction_score "
        "ORDER BY accesses DESC LIMIT 1) "
        "AND horizon = (SELECT min(horizon) FROM "
        "fragaffinity.prediction_score) GROUP BY model", (start,)))


def wait_for_counts(cluster, start, statements):
    """Until the coordinator has collected what the clients did."""
    for _ in range(50):
        if cluster.value(0, "SELECT coalesce(sum(calls), 0) FROM "
                         "fragaffinity.history WHERE step >= to_timestamp(%s)",
                         (start,)) >= statements:
            return
        time.sleep(0.2)


def summary(cluster, start, statements):
    """The final table's figures that the nodes know."""
    r = {}
    wait_for_counts(cluster, start, statements)
    start += cluster.workload.warm_up * cluster.workload.speed
    calls, remote = collections.Counter(), collections.Counter()
    for name, n, away in cluster.sql(
            0, "SELECT n.name, sum(calls), sum(remote_calls) "
            "FROM fragaffinity.history h JOIN fragaffinity.node n USING (node)"
            " WHERE step >= to_timestamp(%s) GROUP BY 1", (start,)):
        calls[name], remote[name] = int(n), int(away)
    r["captured"] = sum(calls.values())
    r["share"] = [1 - remote[n[0]] / max(1, calls[n[0]])
                  for n in cluster.workload.nodes]
    r["share_all"] = 1 - sum(remote.values()) / max(1, r["captured"])
    for key in ("done", "failed"):
        r[key] = cluster.value(
            0, "SELECT count(*) FROM fragaffinity.moves WHERE state = %s",
            (key,))
    for key in ("predictive", "reactive"):
        r[key] = cluster.value(
            0, "SELECT count(*) FROM fragaffinity.moves "
            "WHERE state = 'done' AND trigger = %s", (key,))
    r["bytes"] = int(cluster.value(
        0, "SELECT coalesce(sum(bytes), 0) FROM fragaffinity.moves "
        "WHERE state = 'done'"))
    p50, longest = cluster.sql(
        0, "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY pause_ms), "
        "max(pause_ms) FROM fragaffinity.moves WHERE state = 'done'")[0]
    r["pause"] = "-" if p50 is None else "%.0f / %.0f ms" % (p50, longest)
    loss = log_loss(cluster, start)
    for key, model in (("log_loss", "mixture"), ("log_loss_static", "static")):
        r[key] = "%.3f" % loss[model] if model in loss else "-"
    return r
