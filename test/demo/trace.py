#!/usr/bin/python3
"""The demo's trace: bike trips of an hour, from a zone to a station.

bayarea14.bin is xz of one JSON line (from, step, hours, zones, stations),
then the non-zero cells of the cube zone x station x hour: gaps between them
as base-128 varints, least significant group first, then the counts, a byte
each.

    trace.py make AGG.csv.gz bayarea14.bin [FIRST-DAY [WEEKS]]

makes it from a table ts_bucket,node,fragment,count of Bay Area Bike Share
2014 (see README.md); trace.py show bayarea14.bin says what is in it.
"""
import csv
import datetime
import gzip
import json
import lzma
import os
import sys

HOUR = 3600


class Trace:
    """hours[h] is a list of (zone, station, trips), all indexes."""

    def __init__(self, path):
        with lzma.open(path) as f:
            head = json.loads(f.readline())
            data = f.read()
        self.start = head["from"]
        self.zones = head["zones"]
        self.stations = head["stations"]
        self.hours = [[] for _ in range(head["hours"])]
        cells, at = [], 0
        position = -1
        for _ in range(head["cells"]):
            gap = shift = 0
            while True:
                byte = data[at]
                at += 1
                gap |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            position += gap + 1
            cells.append(position)
        for position, count in zip(cells, data[at:]):
            pair, hour = divmod(position, head["hours"])
            zone, station = divmod(pair, len(self.stations))
            self.hours[hour].append((zone, station, count))

    def hour_of(self, text):
        """Index of an hour given as YYYY-MM-DDTHH."""
        t = datetime.datetime.strptime(text + "+0000", "%Y-%m-%dT%H%z")
        return int(t.timestamp() - self.start) // HOUR

    def clock(self, hour):
        """Local time of an hour's start (it may have a fraction)."""
        return datetime.datetime.fromtimestamp(
            self.start + hour * HOUR, datetime.timezone.utc)


def make(source, target, first="2014-07-07", weeks="12"):
    start = int(datetime.datetime.strptime(
        first + "+0000", "%Y-%m-%d%z").timestamp())
    hours = int(weeks) * 168
    cells = []
    with gzip.open(source, "rt") as f:
        for row in csv.DictReader(f):
            hour = (int(row["ts_bucket"]) - start) // HOUR
            if 0 <= hour < hours:
                cells.append((row["node"], row["fragment"], hour,
                              int(row["count"])))
    zones = sorted({c[0] for c in cells})
    stations = sorted({c[1] for c in cells})
    cube = sorted(((zones.index(z) * len(stations) + stations.index(s))
                   * hours + h, n) for z, s, h, n in cells)
    gaps, last = bytearray(), -1
    for position, _ in cube:
        gap, last = position - last - 1, position
        while gap >= 128:
            gaps.append(128 | gap & 127)
            gap >>= 7
        gaps.append(gap)
    head = {"origin": "Bay Area Bike Share 2014, CC0", "from": start,
            "step": HOUR, "hours": hours, "cells": len(cube),
            "zones": zones, "stations": stations}
    with lzma.open(target, "wb", preset=9 | lzma.PRESET_EXTREME,
                   format=lzma.FORMAT_XZ) as f:
        f.write(json.dumps(head).encode() + b"\n")
        f.write(bytes(gaps) + bytes(n for _, n in cube))


def show(path):
    trace = Trace(path)
    trips = sum(n for hour in trace.hours for _, _, n in hour)
    print("%s: %d trips, %s to %s, %d zones, %d stations, %d bytes" % (
        path, trips, trace.clock(0).date(),
        trace.clock(len(trace.hours)).date(), len(trace.zones),
        len(trace.stations), os.path.getsize(path)))


if __name__ == "__main__":
    commands = {"make": make, "show": show}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
