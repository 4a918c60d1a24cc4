"""What the demo's clients do: the trace as trips of three nodes' clients."""
import collections
import random

# The zones of the trace on three nodes, by where they are: the middle and
# the waterfront of San Francisco, its south and west, and the valley, which
# is 60 km away.  sf0 is the financial district, sf1 Civic Center, sf2 the
# Caltrain terminal, sf3 the north, sf4 Union Square, sf5 South Beach.
NODES = [
    ("downtown", "San Francisco, north of Market", ["sf0", "sf3", "sf4"]),
    ("soma", "San Francisco, south of Market", ["sf1", "sf2", "sf5"]),
    ("southbay", "Peninsula and San Jose", ["pen", "sj"]),
]
# Added round trip between two nodes, ms.
DISTANCES = {(1, 2): 4.0, (2, 3): 10.0, (1, 3): 16.0}

# One trip is one of these, with the given weight; see replay.c.
KINDS = [("ru", 40), ("ri", 35), ("rt", 25)]
STATEMENTS = {"r": 1, "u": 1, "i": 1, "t": 3}

RIDES = 1000            # at each station before the first trip
FIRST_NEW = 1000000     # number of the first ride that a trip adds

Trip = collections.namedtuple(
    "Trip", "due node prepared station old_ride new_ride ops")


class Workload:
    def __init__(self, trace, start, hours, speed, seed=1, times=1,
                 nodes=NODES, warm_up=0):
        """hours of the trace from start on, each taking speed seconds; every
        trip is made so many times.  warm_up: hours before, which do not
        count."""
        self.warm_up = warm_up
        self.times = times
        self.trace = trace
        self.nodes = nodes
        self.first = self.trace.hour_of(start) - warm_up
        self.hours = min(hours + warm_up,
                         len(self.trace.hours) - self.first)
        self.speed = speed
        self.node_of_zone = [
            next(i for i, n in enumerate(nodes) if z in n[2])
            for z in self.trace.zones]
        # Key of a station: its number; what is pooled in the trace: 900 + n.
        self.labels = self.trace.stations
        self.keys = [int(s[2:]) if s.startswith("st") else 900 + i
                     for i, s in enumerate(self.labels)]
        self.random = random.Random(seed)
        self.trips = self._make_trips()

    def _kind(self):
        return self.random.choices([k for k, _ in KINDS],
                                   [w for _, w in KINDS])[0]

    def _make_trips(self):
        rng = self.random
        due = []
        for h in range(self.hours):
            for zone, station, count in self.trace.hours[self.first + h]:
                for _ in range(count * self.times):
                    due.append(((h + rng.random()) * self.speed,
                                self.node_of_zone[zone], station))
        due.sort()
        return [Trip(t, node, rng.random() < 0.5, self.keys[station],
                     1 + rng.randrange(RIDES), FIRST_NEW + i, self._kind())
                for i, (t, node, station) in enumerate(due)]

    def write_schedule(self, path):
        with open(path, "w") as f:
            for t in self.trips:
                f.write("%d %d %s %d %d %d %s\n" % (
                    t.due * 1e6, t.node, "ps"[not t.prepared], t.station,
                    t.old_ride, t.new_ride, t.ops))

    def history(self):
        """(hours before the start, node, station key, accesses) of all hours
        before the replay, as many statements a trip as the clients send."""
        rng = random.Random(2)
        cells = collections.Counter()
        kinds = [sum(STATEMENTS[op] for op in k) for k, w in KINDS
                 for _ in range(w)]
        for h in range(self.first):
            for zone, station, count in self.trace.hours[h]:
                calls = sum(rng.choice(kinds)
                            for _ in range(count * self.times))
                cells[self.first - h, self.node_of_zone[zone],
                      self.keys[station]] += calls
        return sorted((h, n, s, c) for (h, n, s), c in cells.items())

    def expected(self, acks):
        """Rows after the acknowledged operations: {(station, ride): uses}.
        None when one operation's outcome is not known."""
        rows = {(s, r): 0 for s in self.keys for r in range(1, RIDES + 1)}
        for trip, done in zip(self.trips, acks):
            for op, ack in zip(trip.ops, done):
                if ack == "?":
                    return None
                if ack != "1":
                    continue
                if op in "ut":
                    rows[trip.station, trip.old_ride] += 1
                if op in "it":
                    rows[trip.station, trip.new_ride] = 0
        return rows

    def statements(self):
        return sum(STATEMENTS[op] for t in self.trips for op in t.ops)

    def fixed_shares(self):
        """Local share of the replay under the best placement that never
        changes: chosen from the history, and chosen in hindsight."""
        past, now = collections.Counter(), collections.Counter()
        for _, node, station, calls in self.history():
            past[station, node] += calls
        for t in self.trips:
            now[t.station, t.node] += sum(STATEMENTS[op] for op in t.ops)
        nodes = range(len(self.nodes))
        total = sum(now.values())
        known = sum(now[s, max(nodes, key=lambda n: past[s, n])]
                    for s in self.keys)
        hindsight = sum(max(now[s, n] for n in nodes) for s in self.keys)
        return known / total, hindsight / total

    def clock(self, seconds):
        """Local time in the trace, so many seconds after the start."""
        return self.trace.clock(self.first + seconds / self.speed)
