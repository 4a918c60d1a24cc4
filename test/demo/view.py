"""The demo's terminal view: plain ANSI, or a line now and then without a
terminal."""
import os
import shutil
import sys
import time

from workload import NODES

# 256-colour backgrounds from nothing to all, and the same for one colour.
RAMP = [233, 17, 18, 19, 25, 31, 37, 72, 108, 149, 190, 226]
CHARS = " .:-=+*#%@"
LINE_SECONDS = 5


def bar(share, width):
    full = int(round(share * width))
    return "█" * full + "░" * (width - full)


def percent(share):
    return "  -  " if share is None else "%3.0f %%" % (100 * share)


def short(label):
    """Two characters: a station's number, or what is pooled: R and where."""
    return label[2:] if label.startswith("st") else (
        "R" + label.replace("rest_", "").replace("sf", "")[0])


def ms(value):
    return "%6.1f" % value if value else "     -"


class View:
    def __init__(self, out=sys.stdout):
        self.out = out
        self.screen = out.isatty() and os.environ.get("TERM") != "dumb"
        self.colour = self.screen and "NO_COLOR" not in os.environ
        self.open = False
        self.last_line = 0

    def say(self, text):
        """A message outside the screen."""
        self.close()
        print(text, file=self.out, flush=True)

    def close(self):
        if self.open:
            self.out.write("\x1b[?25h\x1b[0m\n")
            self.out.flush()
            self.open = False

    def draw(self, state):
        if self.screen:
            self._draw_screen(state)
        elif time.time() - self.last_line >= LINE_SECONDS:
            self.last_line = time.time()
            print(self._line(state), file=self.out, flush=True)

    def _line(self, s):
        a = s["all"]
        return ("%-9s %s  local %s (%s)  p50 %s p95 %s ms  moves %d done, "
                "%d in flight, %d failed" % (
                    s["title"], s["clock"].strftime("%a %H:%M"),
                    percent(s["share_all"]),
                    ", ".join("%s %s" % (n[0], percent(x).strip())
                              for n, x in zip(NODES, s["share"])),
                    ms(a[1]).strip(), ms(a[2]).strip(), s["moves_done"],
                    len(s["moving"]), s["moves_failed"]))

    def _draw_screen(self, s):
        size = shutil.get_terminal_size()
        lines = self._head(s, size.columns) + self._nodes(s)
        lines += self._heat(s, size.columns) + self._moves(s, size.columns)
        lines = lines[:size.lines - 1]
        text = "\x1b[?25l\x1b[2J\x1b[H" if not self.open else "\x1b[H"
        text += "".join(line + "\x1b[0m\x1b[K\r\n" for line in lines)
        self.out.write(text + "\x1b[J")
        self.out.flush()
        self.open = True

    def _bold(self, text):
        return "\x1b[1m" + text + "\x1b[0m" if self.colour else text

    def _head(self, s, columns):
        done = bar(min(1, s["progress"]), max(4, columns - 76))
        return [self._bold("fragaffinity demo") + "  %-22s %s  %s %s" % (
            s["title"], s["clock"].strftime("%a %d %b %Y %H:%M"), done,
            percent(s["progress"]).strip()), ""]

    def _nodes(self, s):
        lines = [self._bold("node        local share of its clients     "
                            "accesses/s   p50 ms   p95 ms")]
        rows = list(zip([n[0] for n in NODES], s["share"], s["rate"],
                        s["nodes"]))
        rows.append(("all", s["share_all"], sum(s["rate"]), s["all"]))
        for name, share, rate, lat in rows:
            lines.append("%-11s %s %s     %10.0f   %s   %s" % (
                name, bar(share or 0, 22), percent(share), rate,
                ms(lat[1]), ms(lat[2])))
        return lines + [""]

    def _cell(self, share, owner, width):
        mark = "●" if owner else " "
        if share is None:
            return (mark + " ")[:width]
        if self.colour:
            shade = min(len(RAMP) - 1, int(share * len(RAMP)))
            ink = 16 if shade > 6 else 231
            return "\x1b[48;5;%d;38;5;%dm%s\x1b[0m" % (
                RAMP[shade], ink, (mark + " ")[:width])
        shade = CHARS[min(len(CHARS) - 1, int(share * len(CHARS)))]
        return (shade + ("o" if owner else " "))[:width] if width > 1 \
            else ("o" if owner else shade)

    def _heat(self, s, columns):
        width = 2 if columns >= 23 + 2 * len(s["stations"]) else 1
        lines = [self._bold("stations × nodes") +
                 "  (● where the station's rows are now)"]
        for i in range(2):
            lines.append(" " * 22 + "".join(
                short(label)[i].ljust(width) for label in s["labels"]))
        for title, heat in (("accesses", s["actual"]),
                            ("forecast", s["predicted"])):
            for node, (name, _, _) in enumerate(NODES):
                cells = "".join(
                    self._cell(heat.get(k, {}).get(node) if heat.get(k)
                               else None, s["owner"].get(k) == node, width)
                    for k in s["stations"])
                lines.append("%-9s %-11s %s" % (title if node == 0 else "",
                                                name, cells))
        return lines + [""]

    def _moves(self, s, columns):
        lines = [self._bold("moves") + "  %d done, %d in flight, %d failed; "
                 "%s" % (s["moves_done"], len(s["moving"]),
                         s["moves_failed"], s["quality"])]
        for move in s["moving"][:4] + s["moved"][:4]:
            lines.append("  " + move[:columns - 3])
        return lines
