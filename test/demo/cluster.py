"""Three throwaway nodes with the demo's table, and what is asked of them."""
import hashlib
import io
import os
import re
import shutil
import subprocess
import tempfile
import time

import psycopg2
import psycopg2.extensions

from workload import DISTANCES, RIDES

HERE = os.path.dirname(os.path.abspath(__file__))
LAB = os.path.join(HERE, "..", "lab")
CLIENT_ROLE = "rider"

# What history_interval is set to is the speed of the replay; the rest is
# explained in README.md.
SETTINGS = {
    "prediction_horizons": "1,3,6,12",
    "min_residency": "2s",
    "max_concurrent_moves": "20",
    "max_moves_per_node": "10",
    "fragment_size": "1MB",
}

TABLE = """
CREATE TABLE ride (
    station integer NOT NULL,
    ride bigint NOT NULL,
    bike integer NOT NULL,
    uses integer NOT NULL,
    note text,
    PRIMARY KEY (station, ride)
) PARTITION BY LIST (station)"""


class Cluster:
    def __init__(self, workload):
        self.workload = workload
        self.dir = None
        self.conn = []

    def start(self):
        base = os.environ.get("TMPDIR", "/tmp")
        self.dir = tempfile.mkdtemp(prefix="fragaffinity-demo.", dir=base)
        command = [LAB, "start", str(len(self.workload.nodes)), "--dir", self.dir,
                   "--latency", "1"]
        for (a, b), ms in DISTANCES.items():
            command += ["--distance", "%d-%d=%g" % (a, b, ms)]
        for line in ("max_connections = 200", "max_wal_size = '4GB'",
                     "log_min_messages = warning",
                     "fragaffinity.max_movers = %s" % SETTINGS["max_moves_per_node"]):
            command += ["--config", line]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                             stderr=subprocess.PIPE)
        if out.returncode != 0:
            raise RuntimeError("the nodes did not start:\n" + out.stderr)
        self.env = dict(line.split("=", 1)
                        for line in out.stdout.splitlines() if "=" in line)
        self.conn = [self.connect(i) for i in range(len(self.workload.nodes))]

    def conninfo(self, node, user="postgres"):
        return "host=%s/%d/socket port=%s user=%s dbname=postgres" % (
            self.dir, node + 1, self.env["LAB_PORT_%d" % (node + 1)], user)

    def connect(self, node):
        conn = psycopg2.connect(self.conninfo(node),
                                application_name="demo")
        conn.autocommit = True
        return conn

    def sql(self, node, text, args=None):
        with self.conn[node].cursor() as cursor:
            cursor.execute(text, args)
            return cursor.fetchall() if cursor.description else None

    def value(self, node, text, args=None):
        return self.sql(node, text, args)[0][0]

    def join(self):
        for node in range(len(self.workload.nodes)):
            self.sql(node, "CREATE ROLE %s LOGIN" % CLIENT_ROLE)
            self.sql(node, "CREATE EXTENSION fragaffinity CASCADE")
        for node, (name, region, _) in enumerate(self.workload.nodes):
            port = self.env["LAB_PEER_PORT_%d" % (node + 1)]
            self.sql(0, "SELECT fragaffinity.add_node(%s, '127.0.0.1', %s, "
                     "'postgres', region => %s)", (name, port, region))

    def make_table(self):
        w = self.workload
        self.sql(0, TABLE)
        for label, key in zip(w.labels, w.keys):
            self.sql(0, "CREATE TABLE ride_%s PARTITION OF ride "
                     "FOR VALUES IN (%d)" % (label, key))
        self.sql(0, "INSERT INTO ride SELECT s, r, r %% 700, 0, "
                 "repeat(md5(r::text), 4) FROM unnest(%s) s, "
                 "generate_series(1, %s) r", (w.keys, RIDES))
        self.sql(0, "GRANT SELECT, INSERT, UPDATE ON ride TO " + CLIENT_ROLE)
        self.sql(0, "SELECT fragaffinity.distribute_table('ride', 'station', "
                 "fragments => 1, placement => 'balanced')")
        for node, (name, _, _) in enumerate(self.workload.nodes):
            for leaf, in self.sql(node, "SELECT leaf::text FROM "
                                  "fragaffinity.fragments WHERE owner = %s",
                                  (name,)):
                self.sql(node, "ANALYZE " + leaf)
        key_of = dict(zip(w.labels, w.keys))
        self.station = {}
        for fragment, bucket in self.sql(
                0, "SELECT fragment, bucket::text FROM fragaffinity.fragments"):
            self.station[fragment] = key_of[
                re.match(r"ride_(.*)_b\d+$", bucket).group(1)]

    def configure(self, mode):
        settings = dict(SETTINGS, mode=mode, history_interval="%g ms" % (
            1000 * self.workload.speed))
        for name, value in sorted(settings.items()):
            self.sql(0, "SELECT fragaffinity.configure(%s, %s)",
                     (name, value))

    def end_moves(self):
        """No new moves; waits until those under way have ended."""
        self.sql(0, "SELECT fragaffinity.configure('mode', 'observe')")
        for _ in range(100):
            if not self.value(0, "SELECT count(*) FROM fragaffinity.moves "
                              "WHERE finished IS NULL"):
                return
            time.sleep(0.2)
        raise RuntimeError("a move does not end")

    def stage_history(self):
        """History of the weeks before, by hours before the replay."""
        fragment = {s: f for f, s in self.station.items()}
        node_id = dict(self.sql(0, "SELECT name, node FROM fragaffinity.node"))
        text = io.StringIO("".join(
            "%d\t%d\t%d\t%d\n" % (h, node_id[self.workload.nodes[n][0]], fragment[s], c)
            for h, n, s, c in self.workload.history()))
        with self.conn[0].cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE past (hours int, "
                           "node int, fragment bigint, calls bigint)")
            cursor.copy_from(text, "past")
            cursor.execute("ANALYZE past")

    def load_history(self, start):
        """start: time of the first replayed hour, in seconds."""
        w = self.workload
        until = self.value(0, "SELECT floor((extract(epoch FROM "
                           "clock_timestamp()) - %s) / %s)::int",
                           (start, w.speed))
        # Steps up to now only: the future is the server's to record.
        self.sql(0, "INSERT INTO fragaffinity.history (step, width, node, "
                 "fragment, calls, remote_calls, rows_read, rows_written, "
                 "elapsed_ms, remote_elapsed_ms) "
                 "SELECT to_timestamp(%s - hours * %s), "
                 "make_interval(secs => %s), node, fragment, calls, 0, "
                 "calls, 0, 0, 0 FROM past WHERE -hours < %s "
                 "ON CONFLICT DO NOTHING",
                 (start, w.speed, w.speed, until))
        self.sql(0, "INSERT INTO fragaffinity.history_step (step, node) "
                 "SELECT to_timestamp(%s - h * %s), node "
                 "FROM generate_series(1, %s) h, fragaffinity.node "
                 "WHERE -h < %s ON CONFLICT DO NOTHING",
                 (start, w.speed, w.first, until))

    def digest(self, node):
        """Rows seen from a node, and a digest of all of them."""
        hasher, count = hashlib.md5(), 0
        out = io.StringIO()
        with self.conn[node].cursor() as cursor:
            cursor.copy_expert("COPY (SELECT station, ride, uses FROM ride "
                               "ORDER BY station, ride) TO STDOUT", out)
        for line in out.getvalue().splitlines():
            hasher.update(line.encode() + b"\n")
            count += 1
        return count, hasher.hexdigest(), out.getvalue()

    def stop(self):
        for conn in self.conn:
            conn.close()
        self.conn = []
        if self.dir and os.path.exists(os.path.join(self.dir, "env")):
            subprocess.run([LAB, "stop", self.dir], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, start_new_session=True)
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)
            self.dir = None
