"""Made-up demand that follows the sun: queues that the region works on whose
shift it is.

Each queue (customers, orders, a tenant's tickets) is one fragment.  On weekdays
three regions have it one after the other; at which hours differs by queue.  At
weekends two of them share it, at other hours.  Every hand-over comes some
minutes early or late.  A few accesses come from the regions that do not have
it.  Some queues go from region to region when it happens, without any pattern;
some change their pattern once, somewhere in the second half of the weeks.
"""
import math
import random

from trace import HOUR, Trace

NODES = [
    ("america", "Oregon", ["america"]),
    ("europe", "Ireland", ["europe"]),
    ("asia", "Tokyo", ["asia"]),
]
REGIONS = [n[2][0] for n in NODES]
# Hour at which a region's shift begins on a weekday, UTC, give or take START.
SHIFTS = [(15, 0), (7, 1), (23, 2)]
START = 3               # hours
WANDER = 8              # hours that one without pattern stays, on average
WEEK = 168


class ShiftTrace(Trace):
    def __init__(self, start="2014-07-07T00", weeks=12, queues=48, trips=6,
                 jitter=5, elsewhere=0.02, restless=24, seed=1):
        """trips: of a queue and hour, on average; jitter: minutes, standard
        deviation; elsewhere: share of accesses; restless: one queue of so many
        has no pattern, another one changes it; 0: none."""
        self.start = 0
        self.start = self.hour_of(start) * HOUR
        self.zones = REGIONS
        self.stations = ["q%02d" % i for i in range(queues)]
        self.hours = [[] for _ in range(weeks * WEEK)]
        self.jitter = jitter / 60
        for q in range(queues):
            # of its own, so that a change of one thing changes nothing else
            rng = random.Random(seed * 1000 + q)
            kind = q % restless if restless else None
            turns = self._wander(rng) if kind == 3 else \
                self._follow_sun(rng, kind == 7)
            self._count(q, turns, trips * rng.uniform(0.5, 1.5), elsewhere,
                        random.Random(-seed * 1000 - q))

    def _pattern(self, rng):
        """Hour of the week -> region: hand-overs."""
        weekday = [((h + rng.randint(-START, START)) % 24, region)
                   for h, region in SHIFTS]
        two = rng.sample(range(len(REGIONS)), 2)
        weekend = [((6 + rng.randint(-START, START)), two[0]),
                   ((18 + rng.randint(-START, START)), two[1])]
        return {24 * day + h: region for day in range(7)
                for h, region in (weekday if day < 5 else weekend)}

    def _follow_sun(self, rng, changes):
        """(hour, region) from when on a region has it; hours with fractions."""
        end = len(self.hours)
        pattern, other = self._pattern(rng), self._pattern(rng)
        change = rng.randrange(end // 2, end) if changes else end
        turns = [(0, 0)]
        for hour in range(end):
            now = pattern if hour < change else other
            if hour % WEEK in now:
                turns.append((hour + rng.gauss(0, self.jitter),
                              now[hour % WEEK]))
        return turns

    def _wander(self, rng):
        turns = [(0, 0)]
        while turns[-1][0] < len(self.hours):
            turns.append((turns[-1][0] + rng.expovariate(1 / WANDER),
                          (turns[-1][1] + rng.choice((1, 2))) % len(REGIONS)))
        return turns

    def _count(self, q, turns, mean, elsewhere, rng):
        """Trips of an hour are as many as chance has it, at any time of it."""
        at = 0
        turns.sort()
        for hour, cells in enumerate(self.hours):
            count = [0] * len(REGIONS)
            for when in sorted(hour + rng.random()
                               for _ in range(poisson(rng, mean))):
                while at + 1 < len(turns) and turns[at + 1][0] <= when:
                    at += 1
                region = turns[at][1]
                if rng.random() < elsewhere:
                    region = (region + rng.choice((1, 2))) % len(REGIONS)
                count[region] += 1
            cells += [(z, q, n) for z, n in enumerate(count) if n]


def poisson(rng, mean):
    n, left = 0, math.exp(-mean)
    p = rng.random()
    while p > left:
        p *= rng.random()
        n += 1
    return n
